locals {
  tls = var.domain != null

  # One budget from SIGTERM on: drain (the load balancer takes notice), then what is in flight, then the end.
  drain_seconds = 15
  stop_seconds  = 30

  # The service keeps idle connections longer than the load balancer, which would use one that is being closed: 502.
  idle_seconds       = 60
  keep_alive_seconds = 75
}

resource "aws_lb" "alb" {
  #checkov:skip=CKV_AWS_91: access logs would keep addresses, usernames and the keys of calendars' URLs
  #checkov:skip=CKV2_AWS_20: with a domain it redirects; without, there is no certificate to redirect to
  #checkov:skip=CKV2_AWS_76: waf = true puts AWSManagedRulesKnownBadInputsRuleSet in front; nothing here is Java

  name               = var.name
  load_balancer_type = "application"
  security_groups    = [aws_security_group.alb.id]
  subnets            = values(aws_subnet.public)[*].id

  drop_invalid_header_fields = true
  enable_deletion_protection = var.deletion_protection
  idle_timeout               = local.idle_seconds

  depends_on = [aws_internet_gateway.internet]
}

resource "aws_lb_target_group" "hello" {
  #checkov:skip=CKV_AWS_378: TLS ends at the load balancer; from there on it is this VPC, whose groups let nobody else in

  name        = local.ec2 ? "${var.name}-ec2" : var.name
  vpc_id      = aws_vpc.vpc.id
  port        = local.port
  protocol    = "HTTP"
  target_type = local.ec2 ? "instance" : "ip"

  # As long as a stopping task goes on serving. ECS waits for it before SIGTERM, so that nothing comes to a task that stops.
  deregistration_delay = local.drain_seconds

  health_check {
    path     = "/hc"
    protocol = "HTTP"
    matcher  = "200"

    # Out of service 20 s after a failure, 25 where it hangs; back after 20 s of health, and a new target after its
    # first good check. /hc never asks the store, so 5 s are a lot, and a store that is down takes no task out.
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }

  lifecycle {
    create_before_destroy = true # a listener refers to it
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.alb.arn
  port              = local.port
  protocol          = "HTTP"

  default_action {
    type             = local.tls ? "redirect" : "forward"
    target_group_arn = local.tls ? null : aws_lb_target_group.hello.arn

    # The load balancer knows 301 and 302 alone. Clients may make a GET of a POST then, which hello has not.
    dynamic "redirect" {
      for_each = local.tls ? [1] : []

      content {
        status_code = "HTTP_301"
        protocol    = "HTTPS"
        port        = "443"
        host        = var.domain
      }
    }
  }
}

resource "aws_lb_listener" "https" {
  count = local.tls ? 1 : 0

  load_balancer_arn = aws_lb.alb.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06" # TLS 1.3 and 1.2, forward secrecy
  certificate_arn   = var.certificate_arn != null ? var.certificate_arn : aws_acm_certificate_validation.domain[0].certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.hello.arn
  }
}
