# One page: how much, how well, how full.

locals {
  alb_dimension     = ["LoadBalancer", aws_lb.alb.arn_suffix]
  group_dimension   = ["TargetGroup", aws_lb_target_group.hello.arn_suffix, "LoadBalancer", aws_lb.alb.arn_suffix]
  compute_dimension = local.ec2 ? ["AutoScalingGroupName", var.name] : ["ClusterName", var.name, "ServiceName", var.name]

  charts = concat([
    { title = "Requests a minute", stat = "Sum", metrics = [concat(["AWS/ApplicationELB", "RequestCount"], local.alb_dimension)] },
    {
      title = "Errors a minute"
      stat  = "Sum"
      metrics = [
        concat(["AWS/ApplicationELB", "HTTPCode_Target_5XX_Count"], local.group_dimension),
        concat(["AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count"], local.alb_dimension),
        concat(["AWS/ApplicationELB", "HTTPCode_Target_4XX_Count"], local.group_dimension),
      ]
    },
    {
      title = "Latency, seconds"
      stat  = "p99"
      metrics = [
        concat(["AWS/ApplicationELB", "TargetResponseTime"], local.group_dimension, [{ stat = "p50", label = "p50" }]),
        concat(["AWS/ApplicationELB", "TargetResponseTime"], local.group_dimension, [{ stat = "p99", label = "p99" }]),
      ]
    },
    {
      title = local.ec2 ? "Instances" : "Tasks"
      stat  = "Average"
      metrics = [
        concat(["AWS/ApplicationELB", "HealthyHostCount"], local.group_dimension),
        concat(["AWS/ApplicationELB", "UnHealthyHostCount"], local.group_dimension),
      ]
    },
    {
      title = "CPU and memory, percent"
      stat  = "Average"
      metrics = [
        concat(local.ec2 ? ["AWS/EC2", "CPUUtilization"] : ["AWS/ECS", "CPUUtilization"], local.compute_dimension),
        concat(local.ec2 ? ["hello", "mem_used_percent"] : ["AWS/ECS", "MemoryUtilization"], local.compute_dimension),
      ]
    },
    ], var.store == "dynamodb" ? [{
      title = "Table: units a minute, and what was throttled"
      stat  = "Sum"
      metrics = [
        ["AWS/DynamoDB", "ConsumedReadCapacityUnits", "TableName", local.table_name],
        ["AWS/DynamoDB", "ConsumedWriteCapacityUnits", "TableName", local.table_name],
        ["AWS/DynamoDB", "ReadThrottleEvents", "TableName", local.table_name],
        ["AWS/DynamoDB", "WriteThrottleEvents", "TableName", local.table_name],
      ]
  }] : [])
}

resource "aws_cloudwatch_dashboard" "hello" {
  dashboard_name = var.name

  dashboard_body = jsonencode({
    widgets = [for index, chart in local.charts : {
      type   = "metric"
      x      = 8 * (index % 3)
      y      = 6 * floor(index / 3)
      width  = 8
      height = 6
      properties = {
        title   = chart.title
        region  = var.region
        period  = 60
        stat    = chart.stat
        metrics = chart.metrics
        view    = "timeSeries"
      }
    }]
  })
}
