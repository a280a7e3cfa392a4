# Who may reach whom: callers the load balancer, the load balancer the service, and that the store and AWS.

locals {
  port = 5000
}

resource "aws_security_group" "alb" {
  name_prefix = "${var.name}-alb-"
  description = "Load balancer: from callers, to the service"
  vpc_id      = aws_vpc.vpc.id

  tags = { Name = "${var.name}-alb" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "callers" {
  for_each = {
    for pair in setproduct(var.allowed_cidrs, local.tls ? [local.port, 443] : [local.port]) : "${pair[0]}:${pair[1]}" => pair
  }

  security_group_id = aws_security_group.alb.id
  description       = "Callers"
  cidr_ipv4         = each.value[0]
  from_port         = each.value[1]
  to_port           = each.value[1]
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "alb_to_service" {
  security_group_id            = aws_security_group.alb.id
  description                  = "The service"
  referenced_security_group_id = aws_security_group.service.id
  from_port                    = local.port
  to_port                      = local.port
  ip_protocol                  = "tcp"
}

resource "aws_security_group" "service" {
  name_prefix = "${var.name}-service-"
  description = "The service: from the load balancer alone"
  vpc_id      = aws_vpc.vpc.id

  tags = { Name = "${var.name}-service" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "service_from_alb" {
  security_group_id            = aws_security_group.service.id
  description                  = "The load balancer"
  referenced_security_group_id = aws_security_group.alb.id
  from_port                    = local.port
  to_port                      = local.port
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "service_to_gateways" {
  for_each = aws_vpc_endpoint.gateway

  security_group_id = aws_security_group.service.id
  description       = each.key
  prefix_list_id    = each.value.prefix_list_id
  from_port         = 443
  to_port           = 443
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "service_to_endpoints" {
  count = var.nat ? 0 : 1

  security_group_id            = aws_security_group.service.id
  description                  = "VPC endpoints"
  referenced_security_group_id = aws_security_group.endpoints[0].id
  from_port                    = 443
  to_port                      = 443
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "service_to_internet" {
  count = var.nat ? 1 : 0

  security_group_id = aws_security_group.service.id
  description       = "AWS and an OIDC issuer, through NAT"
  cidr_ipv4         = "0.0.0.0/0"
  from_port         = 443
  to_port           = 443
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "service_to_database" {
  count = var.store == "postgresql" ? 1 : 0

  security_group_id = aws_security_group.service.id
  description       = "PostgreSQL"
  cidr_ipv4         = coalesce(var.database_cidr, var.vpc_cidr)
  from_port         = 5432
  to_port           = 5432
  ip_protocol       = "tcp"
}

resource "aws_security_group" "endpoints" {
  count = var.nat ? 0 : 1

  name_prefix = "${var.name}-endpoints-"
  description = "VPC endpoints: from the service"
  vpc_id      = aws_vpc.vpc.id

  tags = { Name = "${var.name}-endpoints" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "endpoints_from_service" {
  count = var.nat ? 0 : 1

  security_group_id            = aws_security_group.endpoints[0].id
  description                  = "The service"
  referenced_security_group_id = aws_security_group.service.id
  from_port                    = 443
  to_port                      = 443
  ip_protocol                  = "tcp"
}
