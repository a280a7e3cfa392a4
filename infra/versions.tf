terraform {
  required_version = ">= 1.10" # the S3 backend's own lock file

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  region     = var.region
  access_key = var.access_key
  secret_key = var.secret_key

  ignore_tags { # deploy.sh sets it, on task definitions that it has seen to run
    keys = ["Released"]
  }

  default_tags {
    tags = { Service = var.name, ManagedBy = "terraform" }
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_availability_zones" "all" {
  #checkov:skip=CKV_AWS_394: a zone that is added or fails changes nothing: network.tf ignores it

  filter { # no Local Zones: not everything is in them
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }

  lifecycle {
    postcondition {
      condition     = length(self.names) >= 3
      error_message = "The region has fewer than three availability zones."
    }
  }
}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
}
