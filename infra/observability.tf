resource "aws_cloudwatch_log_group" "hello" {
  #checkov:skip=CKV_AWS_158: AWS's key serves: logs hold neither secrets nor dates of birth
  #checkov:skip=CKV_AWS_338: they hold addresses of callers, which nobody needs for a year

  name              = "/${local.ec2 ? "ec2" : "ecs"}/${var.name}"
  retention_in_days = var.log_retention_days
}

locals {
  alb            = { LoadBalancer = aws_lb.alb.arn_suffix }
  targets_of_alb = { LoadBalancer = aws_lb.alb.arn_suffix, TargetGroup = aws_lb_target_group.hello.arn_suffix }
  group          = { AutoScalingGroupName = var.name }
  service        = { ClusterName = var.name, ServiceName = var.name }
  table          = { TableName = local.table_name }

  # Percent of all requests, and of a thousand more, so that the few errors of little traffic are no alarm. A minute
  # without errors has no figure, nor has one that is not measured yet; neither breaches.
  percent = "100 * errors / (FILL(requests, 0) + 1000)"

  # By minute. `of` minutes are looked at, and `breaching` of them have to be above the threshold.
  # `rollback`: a deployment during which it goes off is taken back.
  alarms = merge({
    target-errors = {
      description = "The service answers with errors (5xx)"
      expression  = local.percent
      metrics = {
        errors   = ["AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", "Sum", local.targets_of_alb]
        requests = ["AWS/ApplicationELB", "RequestCount", "Sum", local.targets_of_alb]
      }
      threshold = 1, breaching = 2, of = 3, rollback = true
    }
    alb-errors = {
      description = "The load balancer answers with errors (5xx): no healthy task, or connections that break"
      expression  = local.percent
      metrics = {
        errors   = ["AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", "Sum", local.alb]
        requests = ["AWS/ApplicationELB", "RequestCount", "Sum", local.alb]
      }
      threshold = 1, breaching = 2, of = 3, rollback = true
    }
    latency = {
      description = "One request in a hundred takes over a second"
      expression  = "latency"
      metrics     = { latency = ["AWS/ApplicationELB", "TargetResponseTime", "p99", local.targets_of_alb] }
      threshold   = 1, breaching = 3, of = 3, rollback = true
    }
    unhealthy = {
      description = "Tasks or instances fail their health check"
      expression  = "unhealthy"
      metrics     = { unhealthy = ["AWS/ApplicationELB", "UnHealthyHostCount", "Maximum", local.targets_of_alb] }
      threshold   = 0, breaching = 5, of = 5, rollback = false
    }
    cpu = {
      description = "CPU is short, in spite of autoscaling: max_count may be reached"
      expression  = "cpu"
      metrics     = { cpu = local.ec2 ? ["AWS/EC2", "CPUUtilization", "Average", local.group] : ["AWS/ECS", "CPUUtilization", "Average", local.service] }
      threshold   = 85, breaching = 10, of = 10, rollback = false
    }
    memory = {
      description = "Memory is short"
      expression  = "memory"
      metrics     = { memory = local.ec2 ? ["hello", "mem_used_percent", "Maximum", local.group] : ["AWS/ECS", "MemoryUtilization", "Maximum", local.service] }
      threshold   = 85, breaching = 5, of = 5, rollback = false
    }
    }, var.store == "dynamodb" ? {
    throttled = {
      description = "DynamoDB throttles the table or its index"
      expression  = "FILL(reads, 0) + FILL(writes, 0) + FILL(index, 0)"
      metrics = {
        reads  = ["AWS/DynamoDB", "ReadThrottleEvents", "Sum", local.table]
        writes = ["AWS/DynamoDB", "WriteThrottleEvents", "Sum", local.table]
        index  = ["AWS/DynamoDB", "WriteThrottleEvents", "Sum", merge(local.table, { GlobalSecondaryIndexName = "birthdays" })]
      }
      threshold = 0, breaching = 3, of = 5, rollback = false
    }
  } : {})
}

resource "aws_cloudwatch_metric_alarm" "alarm" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  evaluation_periods  = each.value.of
  datapoints_to_alarm = each.value.breaching
  treat_missing_data  = "notBreaching"
  alarm_actions       = aws_sns_topic.alarms[*].arn
  ok_actions          = aws_sns_topic.alarms[*].arn

  metric_query {
    id          = "watched"
    expression  = each.value.expression
    label       = each.value.description
    return_data = true
  }

  dynamic "metric_query" {
    for_each = each.value.metrics

    content {
      id = metric_query.key

      metric {
        namespace   = metric_query.value[0]
        metric_name = metric_query.value[1]
        stat        = metric_query.value[2]
        dimensions  = metric_query.value[3]
        period      = 60
      }
    }
  }
}

resource "aws_sns_topic" "alarms" {
  #checkov:skip=CKV_AWS_26: CloudWatch can't publish by AWS's key, and an alarm tells a number

  count = var.alarm_email != null ? 1 : 0

  name = "${var.name}-alarms"
}

data "aws_iam_policy_document" "alarms" {
  count = var.alarm_email != null ? 1 : 0

  statement {
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alarms[0].arn]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:cloudwatch:${var.region}:${local.account}:alarm:${var.name}-*"]
    }
  }
}

resource "aws_sns_topic_policy" "alarms" {
  count = var.alarm_email != null ? 1 : 0

  arn    = aws_sns_topic.alarms[0].arn
  policy = data.aws_iam_policy_document.alarms[0].json
}

resource "aws_sns_topic_subscription" "alarms" {
  count = var.alarm_email != null ? 1 : 0

  topic_arn = aws_sns_topic.alarms[0].arn
  protocol  = "email"
  endpoint  = var.alarm_email
}
