# The ways from the private subnets to AWS. Gateway endpoints cost nothing; the others are what nat = false pays for.

locals {
  needed_endpoints = {
    fargate = ["ecr.api", "ecr.dkr", "logs", "secretsmanager"]
    ec2     = ["ec2", "logs", "monitoring", "secretsmanager", "ssm", "ssmmessages"]
  }
  interface_endpoints = var.nat ? [] : local.needed_endpoints[var.compute]
}

data "aws_iam_policy_document" "own_account" {
  #checkov:skip=CKV_AWS_1: an endpoint's policy gives no rights, it only limits whose are honoured
  #checkov:skip=CKV_AWS_49: as above
  #checkov:skip=CKV_AWS_283: as above, and the condition names the account

  statement { # no way out for data with somebody else's credentials
    actions   = ["*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:PrincipalAccount"
      values   = [local.account]
    }
  }
}

data "aws_iam_policy_document" "s3_endpoint" {
  #checkov:skip=CKV_AWS_283: ECR signs the layers' addresses itself, so that the caller is none of this account

  statement { # where ECR keeps the layers of images
    actions   = ["s3:GetObject"]
    resources = ["arn:${local.partition}:s3:::prod-${var.region}-starport-layer-bucket/*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
  }
}

resource "aws_vpc_endpoint" "gateway" {
  for_each = {
    dynamodb = data.aws_iam_policy_document.own_account.json
    s3       = data.aws_iam_policy_document.s3_endpoint.json
  }

  vpc_id          = aws_vpc.vpc.id
  service_name    = "com.amazonaws.${var.region}.${each.key}"
  route_table_ids = [aws_route_table.private.id]
  policy          = each.value

  tags = { Name = "${var.name}-${each.key}" }
}

resource "aws_vpc_endpoint" "interface" {
  for_each = toset(local.interface_endpoints)

  vpc_id              = aws_vpc.vpc.id
  vpc_endpoint_type   = "Interface"
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  subnet_ids          = values(aws_subnet.private)[*].id
  security_group_ids  = aws_security_group.endpoints[*].id
  private_dns_enabled = true
  policy              = data.aws_iam_policy_document.own_account.json

  tags = { Name = "${var.name}-${each.key}" }
}
