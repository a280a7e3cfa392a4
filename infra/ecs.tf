locals {
  fargate = var.compute == "fargate"
  tasks   = local.fargate && var.release != null ? 1 : 0

  # One worker for each vCPU, and one where there is less.
  workers = max(1, floor(var.cpu / 1024))

  # What the service is told, none of it secret; the image sets its address and its commit.
  environment = {
    HELLO_STORE         = var.store == "dynamodb" ? "dynamodb://${var.region}/${aws_dynamodb_table.people[0].name}" : null
    HELLO_TIMEZONE      = var.timezone
    HELLO_LEAP_DAY      = var.leap_day
    HELLO_OIDC_ISSUER   = var.oidc_issuer
    HELLO_OIDC_AUDIENCE = var.oidc_audience
    HELLO_WORKERS       = tostring(local.workers)
    HELLO_PROXIES       = join(",", values(local.public_subnets)) # the load balancer tells whose request it is, and over TLS or not
    HELLO_DRAIN_SECONDS = tostring(local.drain_seconds)
    HELLO_STOP_SECONDS  = tostring(local.stop_seconds)

    HELLO_KEEP_ALIVE_SECONDS = tostring(local.keep_alive_seconds)
  }

  # ECS reads these as a task starts, by the execution role; an instance by its own.
  secrets = {
    HELLO_KEYS  = aws_secretsmanager_secret.keys.arn
    HELLO_STORE = var.database_url_secret_arn
  }
}

moved {
  from = aws_ecs_cluster.hello
  to   = aws_ecs_cluster.hello[0]
}

resource "aws_ecs_cluster" "hello" {
  #checkov:skip=CKV_AWS_65: Container Insights are paid metrics; those that alarms need ECS gives free of charge

  count = local.fargate ? 1 : 0

  name = var.name
}

resource "aws_ecs_task_definition" "hello" {
  count = local.tasks

  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution[0].arn
  task_role_arn            = aws_iam_role.task.arn

  # The one that ran before stays ACTIVE, or a rollback would have nothing to go back to.
  skip_destroy = true

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  volume {
    name = "tmp"
  }

  container_definitions = jsonencode([{
    name      = "hello"
    image     = "${aws_ecr_repository.hello.repository_url}@${var.release.digest}"
    essential = true

    portMappings = [{ containerPort = local.port, hostPort = local.port, protocol = "tcp" }]
    environment  = [for name, value in local.environment : { name = name, value = value } if value != null]
    secrets      = [for name, arn in local.secrets : { name = name, valueFrom = arn } if arn != null]

    # From SIGTERM to SIGKILL: above drain_seconds and stop_seconds together, with a margin for closing the store.
    stopTimeout = 60

    user                   = "65532"
    readonlyRootFilesystem = true
    linuxParameters        = { capabilities = { drop = ["ALL"] }, initProcessEnabled = true } # PID 1 is deaf until it has handlers
    mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp" }]               # Fargate has no tmpfs; VOLUME /tmp in the image makes it writable

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.hello.name
        awslogs-region        = var.region
        awslogs-stream-prefix = "hello"
        mode                  = "non-blocking" # no request waits for the log; past the buffer, lines are lost
        max-buffer-size       = "4m"
      }
    }
  }])

  lifecycle {
    # The new one is there before the service lets go of the old one.
    create_before_destroy = true
  }
}

resource "aws_ecs_service" "hello" {
  count = local.tasks

  name            = var.name
  cluster         = aws_ecs_cluster.hello[0].arn
  task_definition = aws_ecs_task_definition.hello[0].arn
  launch_type     = "FARGATE"
  desired_count   = var.desired_count # two at least: min_count says why

  # All old tasks serve until as many new ones are healthy.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  # For this long a task that starts is not judged: an image to pull aside, the first answer comes within seconds.
  health_check_grace_period_seconds = 60

  availability_zone_rebalancing = "ENABLED" # after a zone has failed and come back
  enable_ecs_managed_tags       = true
  propagate_tags                = "SERVICE"

  # apply ends when all tasks are new, or the circuit breaker has gone back; which of the two, the postcondition tells.
  wait_for_steady_state = true

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  # A version that starts and answers wrongly or slowly is taken back too.
  alarms {
    enable      = true
    rollback    = true
    alarm_names = [for name, alarm in local.alarms : aws_cloudwatch_metric_alarm.alarm[name].alarm_name if alarm.rollback]
  }

  network_configuration {
    subnets         = values(aws_subnet.private)[*].id
    security_groups = [aws_security_group.service.id]
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.hello.arn
    container_name   = "hello"
    container_port   = local.port
  }

  timeouts {
    create = "20m"
    update = "20m"
  }

  lifecycle {
    ignore_changes = [desired_count] # autoscaling's

    # The provider reports success after a rollback.
    postcondition {
      condition     = self.task_definition == aws_ecs_task_definition.hello[0].arn
      error_message = "ECS rolled back: ${self.task_definition} runs, and not the release."
    }
  }

  depends_on = [ # what a task needs to start and to be reached
    aws_iam_role_policy.execution,
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
