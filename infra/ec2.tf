# compute = "ec2": instances of the AMI that is the release, in an Auto Scaling Group.

locals {
  ec2       = var.compute == "ec2"
  instances = local.ec2 && var.release != null ? 1 : 0

  # Those with the same vCPUs: whichever is to be had is taken. Graviton's are what docs/capacity.md reckons with.
  default_types  = { ARM64 = ["c7g.large", "c6g.large", "m7g.large"], X86_64 = ["c7i.large", "c6i.large", "m7i.large"] }
  instance_types = local.ec2 ? coalesce(var.instance_types, local.default_types[var.architecture]) : []
  instance_vcpus = local.ec2 ? data.aws_ec2_instance_type.chosen[local.instance_types[0]].default_vcpus : null

  # Lines of NAME=VALUE, which image/settings.py reads at the boot. Whoever is on the instance can read them too, so
  # that secrets are their ARNs: it fetches them by the role.
  user_data = merge(local.environment, local.secrets, {
    LOG_GROUP           = aws_cloudwatch_log_group.hello.name
    HELLO_WORKERS       = tostring(local.instance_vcpus)
    HELLO_ETCD          = join(",", [for address in values(local.etcd) : "https://${address}:2379"])
    HELLO_ETCD_CA       = one(aws_secretsmanager_secret.etcd_ca[*].arn)
    HELLO_ETCD_USER     = "hello"
    HELLO_ETCD_PASSWORD = one(aws_secretsmanager_secret.etcd_password[*].arn)
    HELLO_STORE         = try(coalesce(local.secrets.HELLO_STORE, local.environment.HELLO_STORE), null)
  })
}

data "aws_ec2_instance_type" "chosen" {
  for_each = toset(local.instance_types)

  instance_type = each.key

  lifecycle {
    postcondition {
      condition     = contains(self.supported_architectures, lower(var.architecture))
      error_message = "${each.key} does not run what is built for ${var.architecture}."
    }
  }
}

# Named by the commit, so that another release is another template: a plan shows it as one added, one destroyed, and
# the group that changes. A rollback by AWS itself would find the old template gone, hence none: make rollback does it.
resource "aws_launch_template" "hello" {
  count = local.instances

  name                   = "${var.name}-${substr(var.release.commit, 0, 12)}"
  description            = "${var.name}, commit ${var.release.commit}"
  image_id               = var.release.ami
  instance_type          = local.instance_types[0]
  vpc_security_group_ids = [aws_security_group.service.id]
  update_default_version = true
  user_data              = base64encode(join("", [for name, value in local.user_data : "${name}=${value}\n" if value != null]))

  iam_instance_profile {
    arn = aws_iam_instance_profile.hello[0].arn
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required" # version 2: a request that somebody tricks the service into has no token
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = 8
      encrypted             = true
      delete_on_termination = true
    }
  }

  monitoring {
    enabled = true # CPU by the minute, for scaling
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume", "network-interface"]

    content {
      resource_type = tag_specifications.value
      tags          = { Name = var.name, Service = var.name, Commit = var.release.commit }
    }
  }

  lifecycle {
    create_before_destroy = true

    precondition {
      condition     = length(distinct(values(data.aws_ec2_instance_type.chosen)[*].default_vcpus)) == 1
      error_message = "instance_types have different numbers of vCPUs: scaling and workers count on one."
    }
  }
}

resource "aws_autoscaling_group" "hello" {
  count = local.instances

  name                = var.name
  vpc_zone_identifier = values(aws_subnet.private)[*].id
  target_group_arns   = [aws_lb_target_group.hello.arn]
  min_size            = var.min_count
  max_size            = var.max_count
  desired_capacity    = var.desired_count

  # What the load balancer takes for unhealthy is replaced; not before it has had time to boot.
  health_check_type         = "ELB"
  health_check_grace_period = 120
  default_instance_warmup   = 60 # one whole minute of figures: docs/capacity.md
  capacity_rebalance        = var.spot
  termination_policies      = ["NewestInstance"] # the default ends those of another template first: after a cancelled refresh, those that serve
  enabled_metrics           = ["GroupDesiredCapacity", "GroupInServiceInstances", "GroupPendingInstances", "GroupTerminatingInstances"]

  # The first apply waits for these; of a release it only begins the refresh, which deploy.sh waits for.
  min_elb_capacity          = var.min_count
  wait_for_capacity_timeout = "15m"

  mixed_instances_policy {
    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.hello[0].id
        version            = aws_launch_template.hello[0].latest_version
      }

      dynamic "override" {
        for_each = local.instance_types

        content {
          instance_type = override.value
        }
      }
    }

    instances_distribution {
      on_demand_allocation_strategy            = "prioritized"
      on_demand_base_capacity                  = var.min_count # what must not be interrupted all at once
      on_demand_percentage_above_base_capacity = var.spot ? 50 : 100
      spot_allocation_strategy                 = "price-capacity-optimized"
    }
  }

  # All old instances serve until as many new ones are healthy.
  instance_refresh {
    strategy = "Rolling"

    preferences {
      min_healthy_percentage       = 100
      max_healthy_percentage       = 200
      instance_warmup              = 60
      skip_matching                = true
      scale_in_protected_instances = "Refresh"
      standby_instances            = "Terminate"

      # A version that starts and answers wrongly or slowly goes no further.
      alarm_specification {
        alarms = [for name, alarm in local.alarms : aws_cloudwatch_metric_alarm.alarm[name].alarm_name if alarm.rollback]
      }
    }
  }

  dynamic "tag" {
    for_each = { Name = var.name, Service = var.name, ManagedBy = "terraform" }

    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = false # the template tags instances, with the commit
    }
  }

  timeouts {
    delete = "15m"
    update = "15m"
  }

  lifecycle {
    ignore_changes = [desired_capacity] # autoscaling's
  }

  depends_on = [ # what an instance needs to start and to be reached
    aws_iam_role_policy.instance,
    aws_iam_role_policy.task,
    aws_lb_listener.http,
    aws_lb_listener.https,
    aws_route.nat,
    aws_secretsmanager_secret_version.keys,
    aws_vpc_endpoint.gateway,
    aws_vpc_endpoint.interface,
    aws_vpc_security_group_egress_rule.alb_to_service,
    aws_vpc_security_group_egress_rule.service_to_database,
    aws_vpc_security_group_egress_rule.service_to_endpoints,
    aws_vpc_security_group_egress_rule.service_to_gateways,
    aws_vpc_security_group_egress_rule.service_to_internet,
    aws_vpc_security_group_ingress_rule.endpoints_from_service,
    aws_vpc_security_group_ingress_rule.service_from_alb,
  ]
}

# The group takes an instance out of the load balancer first, and then holds it for this long while it serves on: for
# requests in flight, and for those that a node of the load balancer sends before it knows. Nothing has to tell that it is done,
# so that no instance needs rights for it. Then EC2 shuts the machine down: systemd's SIGTERM has hello leave etcd and drain.
resource "aws_autoscaling_lifecycle_hook" "drain" {
  count = local.instances

  name                   = "drain"
  autoscaling_group_name = aws_autoscaling_group.hello[0].name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_TERMINATING"
  heartbeat_timeout      = 30 # the least that there is; above deregistration_delay
  default_result         = "CONTINUE"
}

# As scaling.tf has it for tasks: each adds instances when its own target is passed, and both have to agree on fewer.
resource "aws_autoscaling_policy" "target" {
  for_each = local.instances == 0 ? {} : {
    cpu = { metric = "ASGAverageCPUUtilization", label = null, value = var.cpu_target }
    requests = {
      metric = "ALBRequestCountPerTarget"
      label  = "${aws_lb.alb.arn_suffix}/${aws_lb_target_group.hello.arn_suffix}"
      value  = coalesce(var.requests_target, 60000 * local.instance_vcpus)
    }
  }

  name                   = "${var.name}-${each.key}"
  autoscaling_group_name = aws_autoscaling_group.hello[0].name
  policy_type            = "TargetTrackingScaling"

  target_tracking_configuration {
    target_value = each.value.value

    predefined_metric_specification {
      predefined_metric_type = each.value.metric
      resource_label         = each.value.label
    }
  }
}

data "aws_iam_policy_document" "instances" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

# Session Manager, and the CloudWatch agent's metrics. AWS's own AmazonSSMManagedInstanceCore would also read every parameter
# of the account.
data "aws_iam_policy_document" "agents" {
  #checkov:skip=CKV_AWS_111: these actions know no resources
  #checkov:skip=CKV_AWS_356: as above

  statement {
    sid = "Sessions"
    actions = [
      "ssm:UpdateInstanceInformation",
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "Metrics"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = ["hello"]
    }
  }

  statement { # the agent asks which group it is in
    sid       = "Group"
    actions   = ["ec2:DescribeTags"]
    resources = ["*"]
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = [aws_cloudwatch_log_group.hello.arn, "${aws_cloudwatch_log_group.hello.arn}:log-stream:*"]
  }
}

data "aws_iam_policy_document" "instance" {
  count = local.ec2 ? 1 : 0

  source_policy_documents = [data.aws_iam_policy_document.agents.json]

  statement {
    sid       = "Secrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [for arn in concat(values(local.secrets), aws_secretsmanager_secret.etcd_ca[*].arn, aws_secretsmanager_secret.etcd_password[*].arn) : arn if arn != null]
  }
}

resource "aws_iam_role_policy" "instance" {
  count = local.ec2 ? 1 : 0

  name   = "instance"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.instance[0].json
}

resource "aws_iam_instance_profile" "hello" {
  count = local.ec2 ? 1 : 0

  name_prefix = "${var.name}-"
  role        = aws_iam_role.task.name
}
