# Two roles: ECS starts tasks by the first, and the service runs by the second, on instances too (ec2.tf). Neither is lent to anybody
# else's ECS (the confused deputy): it has to be for a task of this account and region.

data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:ecs:${var.region}:${local.account}:*"]
    }
  }
}

moved {
  from = aws_iam_role.execution
  to   = aws_iam_role.execution[0]
}

moved {
  from = aws_iam_role_policy.execution
  to   = aws_iam_role_policy.execution[0]
}

resource "aws_iam_role" "execution" {
  count = local.fargate ? 1 : 0

  name_prefix        = "${var.name}-execution-"
  description        = "ECS, to start tasks of ${var.name}"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

data "aws_iam_policy_document" "execution" {
  statement {
    sid       = "Login"
    actions   = ["ecr:GetAuthorizationToken"] # knows no resources
    resources = ["*"]
  }

  statement {
    sid       = "Pull"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [aws_ecr_repository.hello.arn]
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.hello.arn}:log-stream:*"]
  }

  statement {
    sid       = "Secrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [for arn in values(local.secrets) : arn if arn != null]
  }
}

resource "aws_iam_role_policy" "execution" {
  count = local.fargate ? 1 : 0

  name   = "start-tasks"
  role   = aws_iam_role.execution[0].id
  policy = data.aws_iam_policy_document.execution.json
}

resource "aws_iam_role" "task" {
  name_prefix        = "${var.name}-task-"
  description        = "The service ${var.name}"
  assume_role_policy = local.ec2 ? data.aws_iam_policy_document.instances.json : data.aws_iam_policy_document.tasks.json
}

data "aws_iam_policy_document" "task" {
  count = var.store == "dynamodb" ? 1 : 0

  statement {
    sid = "People"
    actions = [
      "dynamodb:BatchGetItem",
      "dynamodb:BatchWriteItem",
      "dynamodb:DeleteItem",
      "dynamodb:GetItem",
      "dynamodb:PutItem",
      "dynamodb:Scan",
    ]
    resources = [aws_dynamodb_table.people[0].arn]
  }

  statement {
    sid       = "Birthdays"
    actions   = ["dynamodb:Query"]
    resources = ["${aws_dynamodb_table.people[0].arn}/index/birthdays"]
  }
}

resource "aws_iam_role_policy" "task" {
  count = var.store == "dynamodb" ? 1 : 0

  name   = "table"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.task[0].json
}
