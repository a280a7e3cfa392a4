resource "aws_appautoscaling_target" "service" {
  count = local.tasks

  service_namespace  = "ecs"
  resource_id        = "service/${aws_ecs_cluster.hello[0].name}/${aws_ecs_service.hello[0].name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.min_count
  max_capacity       = var.max_count
}

locals {
  targets = {
    cpu = {
      metric = "ECSServiceAverageCPUUtilization"
      label  = null
      value  = var.cpu_target
    }
    requests = {
      metric = "ALBRequestCountPerTarget"
      label  = "${aws_lb.alb.arn_suffix}/${aws_lb_target_group.hello.arn_suffix}"
      value  = coalesce(var.requests_target, 60000 * var.cpu / 1024)
    }
  }
}

# Each adds tasks when its own target is passed, and tasks are taken away only where both agree.
resource "aws_appautoscaling_policy" "target" {
  for_each = local.tasks == 0 ? {} : local.targets

  name               = "${var.name}-${each.key}"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.service[0].service_namespace
  resource_id        = aws_appautoscaling_target.service[0].resource_id
  scalable_dimension = aws_appautoscaling_target.service[0].scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value       = each.value.value
    scale_out_cooldown = 60
    scale_in_cooldown  = 300

    predefined_metric_specification {
      predefined_metric_type = each.value.metric
      resource_label         = each.value.label
    }
  }
}
