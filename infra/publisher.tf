# The role that GitHub's workflow takes to push images: no key is kept there.

locals {
  github              = "token.actions.githubusercontent.com"
  github_provider_arn = try(coalesce(var.github_provider_arn, one(aws_iam_openid_connect_provider.github[*].arn)), null)
}

resource "aws_iam_openid_connect_provider" "github" {
  count = var.github_repository != null && var.github_provider_arn == null ? 1 : 0

  url            = "https://${local.github}"
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "github" {
  count = var.github_repository != null ? 1 : 0

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [local.github_provider_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.github}:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition { # no pull request, no other branch, no fork
      test     = "StringEquals"
      variable = "${local.github}:sub"
      values   = ["repo:${var.github_repository}:ref:refs/heads/main"]
    }
  }
}

resource "aws_iam_role" "publisher" {
  count = var.github_repository != null ? 1 : 0

  name_prefix        = "${var.name}-publisher-"
  description        = "The main branch of ${var.github_repository}, to push images"
  assume_role_policy = data.aws_iam_policy_document.github[0].json
}

data "aws_iam_policy_document" "publisher" {
  count = var.github_repository != null ? 1 : 0

  statement {
    sid       = "Login"
    actions   = ["ecr:GetAuthorizationToken"] # knows no resources
    resources = ["*"]
  }

  statement {
    sid = "Push"
    actions = [
      "ecr:BatchCheckLayerAvailability",
      "ecr:BatchGetImage",
      "ecr:CompleteLayerUpload",
      "ecr:DescribeImages",
      "ecr:GetDownloadUrlForLayer",
      "ecr:InitiateLayerUpload",
      "ecr:PutImage",
      "ecr:UploadLayerPart",
    ]
    resources = [aws_ecr_repository.hello.arn]
  }
}

resource "aws_iam_role_policy" "publisher" {
  count = var.github_repository != null ? 1 : 0

  name   = "push-images"
  role   = aws_iam_role.publisher[0].id
  policy = data.aws_iam_policy_document.publisher[0].json
}
