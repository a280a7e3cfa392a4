# What each option changes.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region = "us-east-1"
  release = {
    commit = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    digest = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
  }
}

run "defaults" {
  assert {
    condition     = length(aws_lb_listener.https) == 0 && aws_lb_listener.http.port == 5000 && aws_lb_listener.http.default_action[0].type == "forward"
    error_message = "Without a domain, port 5000 serves."
  }

  assert {
    condition     = [for rule in aws_vpc_security_group_ingress_rule.callers : rule.from_port] == [5000]
    error_message = "No other port is open."
  }

  assert {
    condition     = toset(keys(aws_vpc_endpoint.interface)) == toset(["ecr.api", "ecr.dkr", "logs", "secretsmanager"]) && length(aws_nat_gateway.nat) == 0
    error_message = "By default, VPC endpoints are the only way out."
  }

  assert {
    condition     = alltrue([for endpoint in aws_vpc_endpoint.interface : length(endpoint.subnet_ids) == 3])
    error_message = "They are in all three zones."
  }

  assert {
    condition     = length(aws_vpc_security_group_egress_rule.service_to_internet) == 0
    error_message = "Tasks don't reach the internet."
  }

  assert {
    condition     = aws_dynamodb_table.people[0].deletion_protection_enabled && aws_dynamodb_table.people[0].point_in_time_recovery[0].enabled && aws_dynamodb_table.people[0].server_side_encryption[0].enabled
    error_message = "The table is protected, recoverable and encrypted."
  }

  assert {
    condition = { for statement in data.aws_iam_policy_document.task[0].statement : statement.sid => statement.resources } == {
      People    = toset([aws_dynamodb_table.people[0].arn])
      Birthdays = toset(["${aws_dynamodb_table.people[0].arn}/index/birthdays"])
    }
    error_message = "The service has rights on its table and index alone."
  }

  assert {
    condition = { for statement in data.aws_iam_policy_document.task[0].statement : statement.sid => statement.actions } == {
      People = toset([
        "dynamodb:BatchGetItem", "dynamodb:BatchWriteItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Scan",
      ])
      Birthdays = toset(["dynamodb:Query"])
    }
    error_message = "It may do what the store does, and nothing else."
  }

  assert {
    condition     = aws_lb.alb.enable_deletion_protection && !aws_ecr_repository.hello.force_delete && aws_secretsmanager_secret.keys.recovery_window_in_days == 30
    error_message = "Nothing is destroyed by mistake."
  }

  assert {
    condition     = length(aws_wafv2_web_acl.waf) + length(aws_sns_topic.alarms) + length(aws_iam_role.publisher) == 0 && output.publisher_role_arn == null
    error_message = "These are made only where they are asked for."
  }

  assert {
    condition     = toset([for condition in data.aws_iam_policy_document.tasks.statement[0].condition : condition.variable]) == toset(["aws:SourceAccount", "aws:SourceArn"])
    error_message = "ECS takes the roles for this account's tasks alone."
  }
}

run "made" {
  variables {
    domain            = "hello.example.org"
    zone_id           = "Z0123456789"
    waf               = true
    waf_rate          = 500
    alarm_email       = "ops@example.org"
    github_repository = "example/hello"
  }

  assert {
    condition     = aws_lb_listener.https[0].port == 443 && aws_lb_listener.https[0].ssl_policy == "ELBSecurityPolicy-TLS13-1-2-2021-06" && aws_lb_listener.https[0].default_action[0].type == "forward"
    error_message = "With a domain, 443 serves by TLS 1.3 or 1.2."
  }

  assert {
    condition     = aws_lb_listener.http.default_action[0].type == "redirect" && aws_lb_listener.http.default_action[0].redirect[0].port == "443"
    error_message = "Port 5000 leads there."
  }

  assert {
    condition     = aws_route53_record.domain[0].name == "hello.example.org" && length(aws_acm_certificate_validation.domain) == 1
    error_message = "The record and the certificate are made, and that is validated."
  }

  assert {
    condition     = output.url == "https://hello.example.org"
    error_message = "The URL is the domain's."
  }

  assert {
    condition     = one([for rule in aws_wafv2_web_acl.waf[0].rule : rule.statement[0].rate_based_statement[0].limit if rule.name == "rate"]) == 500
    error_message = "An address is held to the rate."
  }

  assert {
    condition     = aws_wafv2_web_acl_association.alb[0].resource_arn == aws_lb.alb.arn
    error_message = "It is in front of the load balancer."
  }

  assert {
    condition     = aws_sns_topic_subscription.alarms[0].endpoint == "ops@example.org" && alltrue([for alarm in aws_cloudwatch_metric_alarm.alarm : length(alarm.alarm_actions) == 1])
    error_message = "Each alarm goes to the address."
  }

  assert {
    condition = one([for condition in data.aws_iam_policy_document.github[0].statement[0].condition :
    condition.values if condition.variable == "token.actions.githubusercontent.com:sub"]) == tolist(["repo:example/hello:ref:refs/heads/main"])
    error_message = "The main branch of the repository may push, and nobody else."
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 1 && output.publisher_role_arn != null
    error_message = "The identity provider is made."
  }
}

run "given" {
  variables {
    domain                  = "hello.example.org"
    certificate_arn         = "arn:aws:acm:us-east-1:123456789012:certificate/given"
    github_repository       = "example/hello"
    github_provider_arn     = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
    store                   = "postgresql"
    database_url_secret_arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:database-AbCdEf" # pragma: allowlist secret
    database_cidr           = "10.1.0.0/16"
    nat                     = true
    oidc_issuer             = "https://id.example.org"
    oidc_audience           = "hello"
  }

  assert {
    condition     = aws_lb_listener.https[0].certificate_arn == var.certificate_arn && length(aws_acm_certificate.domain) + length(aws_route53_record.domain) == 0
    error_message = "A certificate that is given is used, and no record is made without a zone."
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0
    error_message = "One that is there is used."
  }

  assert {
    condition     = length(aws_dynamodb_table.people) + length(aws_iam_role_policy.task) == 0 && output.table == null
    error_message = "There is no table, and no right."
  }

  assert {
    condition     = { for secret in jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].secrets : secret.name => secret.valueFrom }["HELLO_STORE"] == var.database_url_secret_arn
    error_message = "The URL comes from the secret."
  }

  assert {
    condition     = !contains([for variable in jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].environment : variable.name], "HELLO_STORE")
    error_message = "It is not in the environment."
  }

  assert {
    condition     = aws_vpc_security_group_egress_rule.service_to_database[0].cidr_ipv4 == "10.1.0.0/16"
    error_message = "The tasks reach the database."
  }

  assert {
    condition     = !contains(keys(aws_cloudwatch_metric_alarm.alarm), "throttled")
    error_message = "No alarm watches a table that is not there."
  }

  assert {
    condition     = length(aws_nat_gateway.nat) == 1 && length(aws_vpc_endpoint.interface) == 0 && length(aws_vpc_security_group_egress_rule.service_to_internet) == 1
    error_message = "NAT takes the place of the paid endpoints."
  }

  assert {
    condition     = toset(keys(aws_vpc_endpoint.gateway)) == toset(["dynamodb", "s3"])
    error_message = "The free ones stay."
  }

  assert {
    condition     = { for variable in jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].environment : variable.name => variable.value }["HELLO_OIDC_ISSUER"] == var.oidc_issuer
    error_message = "The service is told the issuer."
  }
}

run "others" {
  variables {
    name                = "greeter"
    table_name          = "restored"
    vpc_cidr            = "10.9.0.0/20"
    allowed_cidrs       = ["192.0.2.0/24", "198.51.100.0/24"]
    timezone            = "Europe/Berlin"
    leap_day            = "mar1"
    kept_images         = 20
    zones               = ["us-east-1d", "us-east-1e", "us-east-1f"]
    deletion_protection = false
  }

  assert {
    condition     = output.cluster == "greeter" && output.table == "restored" && output.repository_name == "greeter" && output.log_group == "/ecs/greeter"
    error_message = "The name is the prefix of all; a table may have another."
  }

  assert {
    condition     = toset(values(aws_subnet.private)[*].cidr_block) == toset(["10.9.8.0/24", "10.9.9.0/24", "10.9.10.0/24"])
    error_message = "Subnets are parts of the VPC's network."
  }

  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.callers : rule.cidr_ipv4]) == var.allowed_cidrs
    error_message = "These networks reach it, and no others."
  }

  assert {
    condition = { for variable in jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].environment :
      variable.name => variable.value if contains(["HELLO_TIMEZONE", "HELLO_LEAP_DAY"], variable.name) } == {
      HELLO_TIMEZONE = "Europe/Berlin", HELLO_LEAP_DAY = "mar1"
    }
    error_message = "The service is told zone and leap day."
  }

  assert {
    condition     = aws_ecr_repository.hello.image_tag_mutability == "IMMUTABLE" && aws_ecr_repository.hello.image_scanning_configuration[0].scan_on_push
    error_message = "Images don't change, and are scanned."
  }

  assert {
    condition     = local.zones == var.zones # of subnets that are made; those of the runs before stay where they are
    error_message = "It is in the zones that are named."
  }

  assert {
    condition     = [for rule in jsondecode(aws_ecr_lifecycle_policy.hello.policy).rules : rule.selection.countNumber] == [100, 14]
    error_message = "Of each commit that is kept there are up to five images."
  }

  assert {
    condition     = !aws_lb.alb.enable_deletion_protection && aws_ecr_repository.hello.force_delete && !aws_dynamodb_table.people[0].deletion_protection_enabled && aws_secretsmanager_secret.keys.recovery_window_in_days == 0
    error_message = "Told so, all can be destroyed."
  }
}
