# compute = "ec2": what is made in place of tasks, and etcd.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region  = "us-east-1"
  compute = "ec2"
  release = {
    commit = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    ami    = "ami-0123456789abcdef0"
  }
}

run "no_release" {
  variables {
    release = null
  }

  assert {
    condition     = length(aws_autoscaling_group.hello) + length(aws_launch_template.hello) + length(aws_autoscaling_policy.target) + length(aws_autoscaling_group.etcd) == 0
    error_message = "Without a release there are no instances."
  }

  assert {
    condition     = length(aws_ebs_volume.etcd) == 3 && length(aws_secretsmanager_secret.etcd) == 1 && output.release == null
    error_message = "All else is there."
  }
}

run "release" {
  assert {
    condition     = length(aws_ecs_cluster.hello) + length(aws_ecs_service.hello) + length(aws_ecs_task_definition.hello) + length(aws_appautoscaling_target.service) + length(aws_iam_role.execution) == 0
    error_message = "Nothing of ECS is made."
  }

  assert {
    condition     = aws_launch_template.hello[0].name == "hello-aaaaaaaaaaaa" && aws_launch_template.hello[0].image_id == var.release.ami
    error_message = "The template is named by the commit, and starts the release's AMI."
  }

  assert {
    condition = alltrue([for template in concat(aws_launch_template.hello, values(aws_launch_template.etcd)) :
      template.metadata_options[0].http_tokens == "required" && template.metadata_options[0].http_put_response_hop_limit == 1 &&
    template.block_device_mappings[0].ebs[0].encrypted == "true" && template.key_name == null])
    error_message = "IMDSv2 is required, volumes are encrypted, and nobody has a key for SSH."
  }

  assert {
    condition     = toset([for group in concat(aws_security_group.etcd[*].id, aws_security_group.service[*].id) : group]) != toset([]) && aws_lb_target_group.hello.target_type == "instance"
    error_message = "Instances are registered as such."
  }

  assert {
    condition = { for line in compact(split("\n", base64decode(aws_launch_template.hello[0].user_data))) : split("=", line)[0] => join("=", slice(split("=", line), 1, length(split("=", line)))) } == {
      HELLO_DRAIN_SECONDS      = "15"
      HELLO_ETCD               = "https://10.0.143.250:2379,https://10.0.159.250:2379,https://10.0.175.250:2379"
      HELLO_ETCD_CA            = aws_secretsmanager_secret.etcd_ca[0].arn
      HELLO_ETCD_PASSWORD      = aws_secretsmanager_secret.etcd_password[0].arn
      HELLO_ETCD_USER          = "hello"
      HELLO_KEEP_ALIVE_SECONDS = "75"
      HELLO_KEYS               = aws_secretsmanager_secret.keys.arn
      HELLO_LEAP_DAY           = "feb28"
      HELLO_PROXIES            = "10.0.0.0/20,10.0.16.0/20,10.0.32.0/20"
      HELLO_STOP_SECONDS       = "30"
      HELLO_STORE              = "dynamodb://us-east-1/hello"
      HELLO_TIMEZONE           = "UTC"
      HELLO_WORKERS            = "2"
      LOG_GROUP                = aws_cloudwatch_log_group.hello.name
    }
    error_message = "User data are these settings; secrets are ARNs."
  }

  assert {
    condition = (
      aws_autoscaling_group.hello[0].health_check_type == "ELB" && length(aws_autoscaling_group.hello[0].vpc_zone_identifier) > 0 &&
      aws_autoscaling_group.hello[0].min_size == 2 && aws_autoscaling_group.hello[0].max_size == 10 &&
      aws_autoscaling_group.hello[0].default_instance_warmup == 60 && aws_autoscaling_group.hello[0].min_elb_capacity == 2
    )
    error_message = "The load balancer says who is healthy."
  }

  assert {
    condition = (
      aws_autoscaling_group.hello[0].instance_refresh[0].preferences[0].min_healthy_percentage == 100 &&
      aws_autoscaling_group.hello[0].instance_refresh[0].preferences[0].max_healthy_percentage == 200 &&
      aws_autoscaling_group.hello[0].instance_refresh[0].preferences[0].skip_matching &&
      aws_autoscaling_group.hello[0].instance_refresh[0].preferences[0].instance_warmup == "60" &&
      aws_autoscaling_group.hello[0].instance_refresh[0].preferences[0].alarm_specification[0].alarms == tolist(["hello-alb-errors", "hello-latency", "hello-target-errors"])
    )
    error_message = "All old instances serve until as many new ones do; errors and latency stop a refresh."
  }

  assert {
    condition     = aws_autoscaling_group.hello[0].termination_policies == tolist(["NewestInstance"])
    error_message = "After a refresh that is cancelled the old instances stay."
  }

  assert {
    condition     = aws_autoscaling_group.hello[0].mixed_instances_policy[0].instances_distribution[0].on_demand_percentage_above_base_capacity == 100 && !aws_autoscaling_group.hello[0].capacity_rebalance
    error_message = "Spot is off by default."
  }

  assert {
    condition     = aws_autoscaling_lifecycle_hook.drain[0].heartbeat_timeout >= tonumber(aws_lb_target_group.hello.deregistration_delay) && aws_autoscaling_lifecycle_hook.drain[0].default_result == "CONTINUE"
    error_message = "An instance serves on while the load balancer lets go of it."
  }

  assert {
    condition     = { for name, policy in aws_autoscaling_policy.target : name => policy.target_tracking_configuration[0].target_value } == { cpu = 80, requests = 120000 }
    error_message = "Targets are those that docs/capacity.md comes to, for two vCPUs."
  }

  assert {
    condition     = toset(keys(aws_vpc_endpoint.interface)) == toset(["ec2", "logs", "monitoring", "secretsmanager", "ssm", "ssmmessages"])
    error_message = "Instances reach what they need, and no registry."
  }

  assert {
    condition     = one([for statement in data.aws_iam_policy_document.instance[0].statement : length(statement.resources) if statement.sid == "Secrets"]) > 0 && data.aws_iam_policy_document.instances.statement[0].principals != null
    error_message = "The role reads the secrets that user data name."
  }

  assert {
    condition     = !contains(flatten([for statement in data.aws_iam_policy_document.agents.statement : statement.actions]), "*")
    error_message = "No right is a wildcard."
  }

  assert {
    condition     = aws_cloudwatch_log_group.hello.name == "/ec2/hello" && [for query in aws_cloudwatch_metric_alarm.alarm["cpu"].metric_query : query.metric[0].namespace if length(query.metric) > 0] == ["AWS/EC2"]
    error_message = "Logs and alarms are those of instances."
  }
}

run "etcd" {
  assert {
    condition     = length(aws_autoscaling_group.etcd) == 3 && alltrue([for group in aws_autoscaling_group.etcd : group.min_size == 1 && group.max_size == 1])
    error_message = "There are three members, each of which is replaced."
  }

  assert {
    condition     = alltrue([for volume in aws_ebs_volume.etcd : volume.encrypted]) && length(distinct(values(aws_ebs_volume.etcd)[*].availability_zone)) == 3
    error_message = "Each has a volume of its own, in a zone of its own."
  }

  assert {
    condition     = aws_dlm_lifecycle_policy.etcd[0].policy_details[0].target_tags["Snapshots"] == aws_ebs_volume.etcd["0"].tags["Snapshots"]
    error_message = "There are snapshots of them."
  }

  assert {
    condition     = { for name, rule in aws_vpc_security_group_ingress_rule.etcd : name => rule.from_port } == { service = 2379, clients = 2379, peers = 2380 } && alltrue([for rule in aws_vpc_security_group_ingress_rule.etcd : rule.cidr_ipv4 == null])
    error_message = "The service and the members reach it, and nobody else."
  }

  assert {
    condition     = strcontains(base64decode(aws_launch_template.etcd["1"].user_data), "ETCD_CLUSTER=m0=https://10.0.143.250:2380,m1=https://10.0.159.250:2380,m2=https://10.0.175.250:2380\n")
    error_message = "Members know each other."
  }
}

run "options" {
  variables {
    architecture    = "X86_64"
    spot            = true
    instance_types  = ["c7i.xlarge", "c6i.xlarge"]
    nat             = true
    requests_target = 5000
    min_count       = 3
    desired_count   = 4
  }

  assert {
    condition     = aws_autoscaling_group.hello[0].mixed_instances_policy[0].instances_distribution[0].on_demand_percentage_above_base_capacity == 50 && aws_autoscaling_group.hello[0].mixed_instances_policy[0].instances_distribution[0].on_demand_base_capacity == 3 && aws_autoscaling_group.hello[0].capacity_rebalance
    error_message = "Half of what is above the least is Spot."
  }

  assert {
    condition     = [for override in aws_autoscaling_group.hello[0].mixed_instances_policy[0].launch_template[0].override : override.instance_type] == ["c7i.xlarge", "c6i.xlarge"]
    error_message = "The types are taken in their order."
  }

  assert {
    condition     = aws_autoscaling_policy.target["requests"].target_tracking_configuration[0].target_value == 5000 && aws_launch_template.etcd["0"].instance_type == "t3.small"
    error_message = "What is given counts."
  }

  assert {
    condition     = length(aws_vpc_endpoint.interface) == 0 && length(aws_vpc_security_group_egress_rule.etcd_to_internet) == 1
    error_message = "By NAT there are no paid endpoints."
  }
}

run "different_vcpus" {
  command = plan

  override_data {
    target = data.aws_ec2_instance_type.chosen["c7g.large"]
    values = { default_vcpus = 4, supported_architectures = ["arm64"] }
  }

  expect_failures = [aws_launch_template.hello]
}

run "other_architecture" {
  command = plan

  override_data {
    target = data.aws_ec2_instance_type.chosen["c7g.large"]
    values = { default_vcpus = 2, supported_architectures = ["x86_64"] }
  }

  expect_failures = [data.aws_ec2_instance_type.chosen]
}
