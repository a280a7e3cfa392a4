# compute = "ec2": where instances register and are found. Three members, one a zone: one of them may fail.
#
# A member is a group of one instance, of the AMI that was released first: image/etcd_member.py has it take its volume and its address
# as it boots. The certificate authority and the passwords are made by etcd-secrets.sh, and Terraform never sees them.

locals {
  # Each zone's member has one address for ever, out of the part of the subnet that is kept for it: the last 16.
  etcd       = local.ec2 ? { for zone, network in local.private_subnets : zone => cidrhost(network, -6) } : {}
  etcd_count = local.instances == 1 ? local.etcd : {}
}

resource "aws_ec2_subnet_cidr_reservation" "etcd" { # or something else may be given the address
  for_each = local.etcd

  subnet_id        = aws_subnet.private[each.key].id
  cidr_block       = "${cidrhost(local.private_subnets[each.key], -16)}/28"
  reservation_type = "explicit"
}

resource "aws_ebs_volume" "etcd" {
  #checkov:skip=CKV_AWS_189: aws/ebs serves: the data are addresses of instances, and hashes of two passwords

  for_each = local.etcd

  availability_zone = aws_subnet.private[each.key].availability_zone
  type              = "gp3"
  size              = 4
  encrypted         = true

  tags = { Name = "${var.name}-etcd-${each.key}", Snapshots = "${var.name}-etcd" }
}

resource "aws_launch_template" "etcd" {
  for_each = local.etcd_count

  name                   = "${var.name}-etcd-${each.key}"
  description            = "Member ${each.key} of etcd for ${var.name}"
  image_id               = var.release.ami
  instance_type          = var.architecture == "ARM64" ? "t4g.small" : "t3.small"
  vpc_security_group_ids = aws_security_group.etcd[*].id
  update_default_version = true

  user_data = base64encode(join("", [for name, value in {
    LOG_GROUP    = aws_cloudwatch_log_group.hello.name
    ETCD_NAME    = "m${each.key}"
    ETCD_ADDRESS = each.value
    ETCD_VOLUME  = aws_ebs_volume.etcd[each.key].id
    ETCD_CLUSTER = join(",", [for zone, address in local.etcd : "m${zone}=https://${address}:2380"])
    ETCD_SECRET  = aws_secretsmanager_secret.etcd[0].arn
  } : "${name}=${value}\n"]))

  iam_instance_profile {
    arn = aws_iam_instance_profile.etcd[0].arn
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
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

  credit_specification {
    cpu_credits = "standard" # it hardly works, and never costs more
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume", "network-interface"]

    content {
      resource_type = tag_specifications.value
      tags          = { Name = "${var.name}-etcd-${each.key}", Service = var.name }
    }
  }

  lifecycle {
    ignore_changes = [image_id] # a release is none of etcd; docs/aws.md tells how members get a new one
  }
}

# An instance that fails is replaced within minutes, and goes on with the volume.
resource "aws_autoscaling_group" "etcd" {
  for_each = local.etcd_count

  name                      = "${var.name}-etcd-${each.key}"
  vpc_zone_identifier       = [aws_subnet.private[each.key].id]
  min_size                  = 1
  max_size                  = 1
  health_check_type         = "EC2"
  health_check_grace_period = 300

  launch_template {
    id      = aws_launch_template.etcd[each.key].id
    version = aws_launch_template.etcd[each.key].latest_version
  }

  # The old one has to let go of the volume. No `instance_refresh`: it would take all three members down at once.
  suspended_processes = ["AZRebalance"]

  dynamic "tag" {
    for_each = { Name = "${var.name}-etcd-${each.key}", Service = var.name, ManagedBy = "terraform" }

    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = false
    }
  }

  depends_on = [
    aws_ec2_subnet_cidr_reservation.etcd,
    aws_iam_role_policy.etcd,
    aws_route.nat,
    aws_vpc_endpoint.interface,
    aws_vpc_security_group_egress_rule.etcd_to_endpoints,
    aws_vpc_security_group_egress_rule.etcd_to_internet,
    aws_vpc_security_group_egress_rule.etcd_to_etcd,
    aws_vpc_security_group_ingress_rule.etcd,
  ]
}

# Secrets, whose values etcd-secrets.sh writes: what members need, what the service needs of it.

resource "aws_secretsmanager_secret" "etcd" {
  #checkov:skip=CKV_AWS_149: aws/secretsmanager serves: IAM says who reads it, and no other account has to
  #checkov:skip=CKV2_AWS_57: members would have to be restarted one after the other: docs/aws.md

  count = local.ec2 ? 1 : 0

  name                    = "${var.name}/etcd"
  description             = "Certificate authority and passwords of etcd, for its members"
  recovery_window_in_days = local.recovery_days
}

resource "aws_secretsmanager_secret" "etcd_ca" {
  #checkov:skip=CKV_AWS_149: as above
  #checkov:skip=CKV2_AWS_57: as above

  count = local.ec2 ? 1 : 0

  name                    = "${var.name}/etcd-ca"
  description             = "Certificate of etcd's authority, for ${var.name}"
  recovery_window_in_days = local.recovery_days
}

resource "aws_secretsmanager_secret" "etcd_password" {
  #checkov:skip=CKV_AWS_149: as above
  #checkov:skip=CKV2_AWS_57: as above

  count = local.ec2 ? 1 : 0

  name                    = "${var.name}/etcd-password"
  description             = "Password of ${var.name} in etcd"
  recovery_window_in_days = local.recovery_days
}

# Rights: each member its volume and its address, and the secret.

resource "aws_iam_role" "etcd" {
  count = local.ec2 ? 1 : 0

  name_prefix        = "${var.name}-etcd-"
  description        = "Members of etcd for ${var.name}"
  assume_role_policy = data.aws_iam_policy_document.instances.json
}

data "aws_iam_policy_document" "etcd" {
  count = local.ec2 ? 1 : 0

  source_policy_documents = [data.aws_iam_policy_document.agents.json]

  statement {
    sid       = "Secret"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = aws_secretsmanager_secret.etcd[*].arn
  }

  statement {
    sid       = "Volume"
    actions   = ["ec2:AttachVolume"]
    resources = values(aws_ebs_volume.etcd)[*].arn
  }

  statement {
    sid       = "Own"
    actions   = ["ec2:AttachVolume", "ec2:AssignPrivateIpAddresses"]
    resources = ["arn:${local.partition}:ec2:${var.region}:${local.account}:instance/*", "arn:${local.partition}:ec2:${var.region}:${local.account}:network-interface/*"]

    condition {
      test     = "StringLike"
      variable = "aws:ResourceTag/Name"
      values   = ["${var.name}-etcd-*"]
    }
  }
}

resource "aws_iam_role_policy" "etcd" {
  count = local.ec2 ? 1 : 0

  name   = "member"
  role   = aws_iam_role.etcd[0].id
  policy = data.aws_iam_policy_document.etcd[0].json
}

resource "aws_iam_instance_profile" "etcd" {
  count = local.ec2 ? 1 : 0

  name_prefix = "${var.name}-etcd-"
  role        = aws_iam_role.etcd[0].name
}

# Who may reach it: the service as a client, members each other.

resource "aws_security_group" "etcd" {
  count = local.ec2 ? 1 : 0

  name_prefix = "${var.name}-etcd-"
  description = "etcd: from the service and its own members alone"
  vpc_id      = aws_vpc.vpc.id

  tags = { Name = "${var.name}-etcd" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "etcd" {
  for_each = local.ec2 ? {
    service = { group = aws_security_group.service.id, port = 2379 }
    clients = { group = aws_security_group.etcd[0].id, port = 2379 } # a member sets the users up
    peers   = { group = aws_security_group.etcd[0].id, port = 2380 }
  } : {}

  security_group_id            = aws_security_group.etcd[0].id
  description                  = each.key
  referenced_security_group_id = each.value.group
  from_port                    = each.value.port
  to_port                      = each.value.port
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "service_to_etcd" {
  count = local.ec2 ? 1 : 0

  security_group_id            = aws_security_group.service.id
  description                  = "etcd"
  referenced_security_group_id = aws_security_group.etcd[0].id
  from_port                    = 2379
  to_port                      = 2379
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "etcd_to_etcd" {
  count = local.ec2 ? 1 : 0

  security_group_id            = aws_security_group.etcd[0].id
  description                  = "Members"
  referenced_security_group_id = aws_security_group.etcd[0].id
  from_port                    = 2379
  to_port                      = 2380
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "etcd_to_endpoints" {
  count = local.ec2 && !var.nat ? 1 : 0

  security_group_id            = aws_security_group.etcd[0].id
  description                  = "VPC endpoints"
  referenced_security_group_id = aws_security_group.endpoints[0].id
  from_port                    = 443
  to_port                      = 443
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "etcd_to_internet" {
  count = local.ec2 && var.nat ? 1 : 0

  security_group_id = aws_security_group.etcd[0].id
  description       = "AWS, through NAT"
  cidr_ipv4         = "0.0.0.0/0"
  from_port         = 443
  to_port           = 443
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_ingress_rule" "endpoints_from_etcd" {
  count = local.ec2 && !var.nat ? 1 : 0

  security_group_id            = aws_security_group.endpoints[0].id
  description                  = "etcd"
  referenced_security_group_id = aws_security_group.etcd[0].id
  from_port                    = 443
  to_port                      = 443
  ip_protocol                  = "tcp"
}

# A snapshot of each volume a day, seven of them.

data "aws_iam_policy_document" "snapshots_role" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["dlm.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

data "aws_iam_policy_document" "snapshots" {
  #checkov:skip=CKV_AWS_111: DLM finds volumes by their tags, so that descriptions are of all
  #checkov:skip=CKV_AWS_356: as above

  statement {
    actions   = ["ec2:DescribeInstances", "ec2:DescribeSnapshots", "ec2:DescribeVolumes"]
    resources = ["*"]
  }

  statement {
    actions = ["ec2:CreateSnapshot", "ec2:CreateSnapshots", "ec2:CreateTags", "ec2:DeleteSnapshot"]
    resources = concat(values(aws_ebs_volume.etcd)[*].arn, [
      "arn:${local.partition}:ec2:${var.region}::snapshot/*",
    ])
  }
}

resource "aws_iam_role" "snapshots" {
  count = local.ec2 ? 1 : 0

  name_prefix        = "${var.name}-snapshots-"
  description        = "DLM, for snapshots of the volumes of etcd for ${var.name}"
  assume_role_policy = data.aws_iam_policy_document.snapshots_role.json
}

resource "aws_iam_role_policy" "snapshots" {
  count = local.ec2 ? 1 : 0

  name   = "snapshots"
  role   = aws_iam_role.snapshots[0].id
  policy = data.aws_iam_policy_document.snapshots.json
}

resource "aws_dlm_lifecycle_policy" "etcd" {
  count = local.ec2 ? 1 : 0

  description        = "Volumes of etcd for ${var.name}"
  execution_role_arn = aws_iam_role.snapshots[0].arn
  state              = "ENABLED"

  policy_details {
    resource_types = ["VOLUME"]
    target_tags    = { Snapshots = "${var.name}-etcd" }

    schedule {
      name      = "daily"
      copy_tags = true

      create_rule {
        interval      = 24
        interval_unit = "HOURS"
        times         = ["03:00"]
      }

      retain_rule {
        count = 7
      }
    }
  }
}
