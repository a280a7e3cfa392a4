# Each validation, once by a value that it must refuse. Those that look at other variables have runs of their own.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region = "us-east-1"
}

run "malformed" {
  command = plan

  variables {
    release             = { commit = "main" }
    architecture        = "arm64"
    cpu                 = 300
    min_count           = 1
    cpu_target          = 100
    requests_target     = 1
    store               = "sqlite"
    table_name          = "t"
    database_cidr       = "10.1.0.0"
    timezone            = "Europe/Berlin; reboot"
    leap_day            = "28 February"
    oidc_audience       = ""
    name                = "Hello"
    region              = "Frankfurt"
    zones               = ["us-east-1a", "us-east-1a", "us-east-1b"]
    vpc_cidr            = "10.0.0.0/24"
    allowed_cidrs       = ["everybody"]
    zone_id             = "example.org"
    certificate_arn     = "cert.pem"
    waf_rate            = 1
    alarm_email         = "ops"
    log_retention_days  = 42
    kept_images         = 1
    github_repository   = "https://github.com/example/hello"
    github_provider_arn = "github"
    instance_types      = ["large"]
  }

  expect_failures = [
    var.release, var.architecture, var.cpu, var.min_count, var.cpu_target, var.requests_target, var.store,
    var.table_name, var.database_cidr, var.timezone, var.leap_day, var.oidc_audience, var.name, var.region, var.zones, var.vpc_cidr,
    var.allowed_cidrs, var.zone_id, var.certificate_arn, var.waf_rate, var.alarm_email, var.log_retention_days,
    var.kept_images, var.github_repository, var.github_provider_arn, var.instance_types,
  ]
}

run "of_another_form" {
  command = plan

  variables {
    release                 = { commit = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" } # no digest
    memory                  = 4096                                                    # too much for 256 CPU units
    max_count               = 1
    database_url_secret_arn = "postgresql://db.example.org/hello" # pragma: allowlist secret
    oidc_issuer             = "http://id.example.org"
    domain                  = "https://hello.example.org"
    allowed_cidrs           = []
    access_key              = "test"
  }

  expect_failures = [
    var.release, var.memory, var.max_count, var.database_url_secret_arn, var.oidc_issuer, var.domain, var.allowed_cidrs,
    var.access_key,
  ]
}

run "together" {
  command = plan

  variables {
    desired_count = 11
    store         = "postgresql" # without the secret
    oidc_issuer   = "https://id.example.org"
    oidc_audience = "hello" # without NAT
    domain        = "hello.example.org"
  }

  expect_failures = [var.desired_count, var.database_url_secret_arn, var.oidc_issuer, var.domain]
}

# A database with DynamoDB, an issuer without an audience, a zone without a domain.
run "the_other_way_round" {
  command = plan

  variables {
    compute                 = "lambda"
    desired_count           = 1
    memory                  = 600
    database_url_secret_arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:database-AbCdEf" # pragma: allowlist secret
    nat                     = true
    oidc_issuer             = "https://id.example.org"
    zone_id                 = "Z0123456789"
  }

  expect_failures = [var.compute, var.desired_count, var.memory, var.database_url_secret_arn, var.oidc_issuer, var.domain]
}

# What is of the other compute mode.
run "ec2" {
  command = plan

  variables {
    compute        = "ec2"
    release        = { commit = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", digest = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" }
    instance_types = []
  }

  expect_failures = [var.release, var.instance_types]
}

run "fargate" {
  command = plan

  variables {
    release = { commit = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", ami = "ami-0123456789abcdef0" }
    spot    = true
  }

  expect_failures = [var.release, var.spot]
}
