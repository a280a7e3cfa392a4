# What is made without and with a release, and the settings that decide about downtime.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region = "us-east-1"
  release = {
    commit = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    digest = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
  }
}

run "no_release" {
  variables {
    release = null
  }

  assert {
    condition     = length(aws_ecs_service.hello) + length(aws_ecs_task_definition.hello) + length(aws_appautoscaling_target.service) + length(aws_appautoscaling_policy.target) == 0
    error_message = "Without a release there is no service."
  }

  assert {
    condition     = output.release == null && output.url == "http://hello-1.us-east-1.elb.amazonaws.com:5000"
    error_message = "All but the service is there."
  }

  assert {
    condition     = aws_secretsmanager_secret_version.keys.secret_string == "[]"
    error_message = "The list of keys begins empty: the service is closed, not open."
  }
}

run "release" {
  assert {
    condition     = output.release == var.release.commit
    error_message = "The output tells the commit."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].image == "123456789012.dkr.ecr.us-east-1.amazonaws.com/hello@${var.release.digest}"
    error_message = "What runs is named by its digest."
  }

  assert {
    condition     = aws_ecs_task_definition.hello[0].runtime_platform[0].cpu_architecture == "ARM64"
    error_message = "It runs on ARM."
  }

  assert {
    condition = alltrue([
      jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].readonlyRootFilesystem,
      jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].user == "65532",
      jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].linuxParameters.capabilities.drop == ["ALL"],
    ])
    error_message = "The container has no rights that it does not need."
  }

  assert {
    condition = toset([for variable in jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].environment : variable.name]) == toset([
      "HELLO_STORE", "HELLO_TIMEZONE", "HELLO_LEAP_DAY", "HELLO_WORKERS", "HELLO_PROXIES", "HELLO_DRAIN_SECONDS", "HELLO_STOP_SECONDS",
      "HELLO_KEEP_ALIVE_SECONDS",
    ])
    error_message = "The environment holds these variables alone."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].secrets == [{ name = "HELLO_KEYS", valueFrom = aws_secretsmanager_secret.keys.arn }]
    error_message = "Keys come from Secrets Manager, by ARN."
  }

  assert {
    condition     = { for variable in jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].environment : variable.name => variable.value }["HELLO_PROXIES"] == join(",", sort(values(aws_subnet.public)[*].cidr_block))
    error_message = "The load balancer's subnets are believed, and no other."
  }

  assert {
    condition = sum([for variable in jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].environment :
    tonumber(variable.value) if contains(["HELLO_DRAIN_SECONDS", "HELLO_STOP_SECONDS"], variable.name)]) < jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].stopTimeout
    error_message = "A task has time to drain and to finish before it is killed."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].stopTimeout <= 120
    error_message = "Fargate waits 120 s at most."
  }

  assert {
    condition     = tonumber(aws_lb_target_group.hello.deregistration_delay) == 15 && aws_lb.alb.idle_timeout == 60
    error_message = "The delay is the drain's time."
  }

  assert {
    condition = { for variable in jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].environment :
    variable.name => variable.value }["HELLO_KEEP_ALIVE_SECONDS"] > aws_lb.alb.idle_timeout
    error_message = "The service keeps idle connections longer than the load balancer."
  }

  assert {
    condition = (
      aws_lb_target_group.hello.health_check[0].path == "/hc" && aws_lb_target_group.hello.health_check[0].interval == 10 &&
      aws_lb_target_group.hello.health_check[0].timeout == 5 && aws_lb_target_group.hello.health_check[0].healthy_threshold == 2 &&
      aws_lb_target_group.hello.health_check[0].unhealthy_threshold == 2
    )
    error_message = "Health is /hc each 10 s, 5 s at most, twice."
  }

  assert {
    condition = (
      aws_ecs_service.hello[0].deployment_minimum_healthy_percent == 100 && aws_ecs_service.hello[0].deployment_maximum_percent == 200 &&
      aws_ecs_service.hello[0].desired_count == 2 && aws_ecs_service.hello[0].health_check_grace_period_seconds == 60
    )
    error_message = "All old tasks serve until as many new ones do."
  }

  assert {
    condition     = aws_ecs_service.hello[0].wait_for_steady_state && aws_ecs_task_definition.hello[0].skip_destroy
    error_message = "apply waits for the end, and a rollback has its target."
  }

  assert {
    condition     = aws_ecs_service.hello[0].deployment_circuit_breaker[0].enable && aws_ecs_service.hello[0].deployment_circuit_breaker[0].rollback
    error_message = "Tasks that don't become healthy are taken back."
  }

  assert {
    condition     = aws_ecs_service.hello[0].alarms[0].rollback && aws_ecs_service.hello[0].alarms[0].alarm_names == toset(["hello-target-errors", "hello-alb-errors", "hello-latency"])
    error_message = "Errors and latency take a deployment back; saturation does not."
  }
}

run "targets" {
  assert {
    condition = { for name, policy in aws_appautoscaling_policy.target : name => policy.target_tracking_scaling_policy_configuration[0].target_value } == {
      cpu = 80, requests = 15000
    }
    error_message = "They are those that docs/capacity.md comes to."
  }
}

run "size" {
  variables {
    cpu             = 2048
    memory          = 4096
    desired_count   = 3
    min_count       = 3
    max_count       = 30
    cpu_target      = 50
    requests_target = 1000
  }

  assert {
    condition     = { for variable in jsondecode(aws_ecs_task_definition.hello[0].container_definitions)[0].environment : variable.name => variable.value }["HELLO_WORKERS"] == "2"
    error_message = "There is a worker for each vCPU."
  }

  assert {
    condition     = aws_appautoscaling_target.service[0].min_capacity == 3 && aws_appautoscaling_target.service[0].max_capacity == 30
    error_message = "Autoscaling keeps to its bounds."
  }

  assert {
    condition = { for name, policy in aws_appautoscaling_policy.target : name => policy.target_tracking_scaling_policy_configuration[0].target_value } == {
      cpu = 50, requests = 1000
    }
    error_message = "It follows CPU, and requests by task."
  }

  assert {
    condition     = aws_appautoscaling_policy.target["requests"].target_tracking_scaling_policy_configuration[0].predefined_metric_specification[0].resource_label == "app/hello/0/targetgroup/hello/0"
    error_message = "Requests are those of this target group."
  }
}
