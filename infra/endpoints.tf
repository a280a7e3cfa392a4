# The ways from the private subnets to AWS. Gateway endpoints cost nothing; the others are what nat = false pays for.

locals {
  interface_endpoints = var.nat ? [] : ["ecr.api", "ecr.dkr", "logs", "secretsmanager"]
}

data "aws_iam_policy_document" "dynamodb_endpoint" {
  statement {
    actions   = ["dynamodb:*"]
    resources = ["arn:${local.partition}:dynamodb:${var.region}:${local.account}:table/*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
  }
}

data "aws_iam_policy_document" "s3_endpoint" {
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
    dynamodb = data.aws_iam_policy_document.dynamodb_endpoint.json
    s3       = data.aws_iam_policy_document.s3_endpoint.json
  }

  vpc_id          = aws_vpc.vpc.id
  service_name    = "com.amazonaws.${var.region}.${each.key}"
  route_table_ids = [aws_route_table.private.id]
  policy          = each.value

  tags = { Name = "${var.name}-${each.key}" }
}

data "aws_iam_policy_document" "interface_endpoint" {
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

resource "aws_vpc_endpoint" "interface" {
  for_each = toset(local.interface_endpoints)

  vpc_id              = aws_vpc.vpc.id
  vpc_endpoint_type   = "Interface"
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  subnet_ids          = [for zone in local.zones : aws_subnet.private[zone].id]
  security_group_ids  = aws_security_group.endpoints[*].id
  private_dns_enabled = true
  policy              = data.aws_iam_policy_document.interface_endpoint.json

  tags = { Name = "${var.name}-${each.key}" }
}
