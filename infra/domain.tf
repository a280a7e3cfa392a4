locals {
  own_certificate = local.tls && var.certificate_arn == null
}

resource "aws_acm_certificate" "domain" {
  count = local.own_certificate ? 1 : 0

  domain_name       = var.domain
  validation_method = "DNS"

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route53_record" "validation" {
  count = local.own_certificate ? 1 : 0

  zone_id         = var.zone_id
  name            = one(aws_acm_certificate.domain[0].domain_validation_options).resource_record_name
  type            = one(aws_acm_certificate.domain[0].domain_validation_options).resource_record_type
  records         = [one(aws_acm_certificate.domain[0].domain_validation_options).resource_record_value]
  ttl             = 300
  allow_overwrite = true
}

resource "aws_acm_certificate_validation" "domain" {
  count = local.own_certificate ? 1 : 0

  certificate_arn         = aws_acm_certificate.domain[0].arn
  validation_record_fqdns = aws_route53_record.validation[*].fqdn
}

resource "aws_route53_record" "domain" {
  count = var.zone_id != null ? 1 : 0

  zone_id = var.zone_id
  name    = var.domain
  type    = "A"

  alias {
    name                   = aws_lb.alb.dns_name
    zone_id                = aws_lb.alb.zone_id
    evaluate_target_health = false # there is no other to go to
  }
}
