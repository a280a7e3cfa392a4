# The AMI of one commit, encrypted, for one architecture: `make ami` calls this with the bundle that it has packed.
packer {
  required_version = ">= 1.9.0"
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3.0, < 2.0.0"
    }
  }
}

variable "commit" {
  type        = string
  description = "The commit that is in the bundle, 40 hexadecimal digits."
  validation {
    condition     = length(var.commit) == 40
    error_message = "The commit has to be 40 hexadecimal digits."
  }
}

variable "bundle" {
  type        = string
  description = "The folder that image/bundle.sh has packed, for the same architecture."
}

variable "architecture" {
  type        = string
  default     = "arm64"
  description = "What the AMI runs on: arm64 (Graviton) or x86_64."
  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "The architecture has to be arm64 or x86_64."
  }
}

variable "region" {
  type        = string
  description = "The region that the AMI is made in, and is for."
}

variable "subnet_id" {
  type        = string
  default     = ""
  description = "A public subnet to build in; by default one of the region's default VPC."
}

variable "kms_key_id" {
  type        = string
  default     = ""
  description = "The key that encrypts the AMI; by default the account's own for EBS, which other accounts can't use."
}

locals {
  debian        = { arm64 = "arm64", x86_64 = "amd64" }
  instance_type = { arm64 = "t4g.small", x86_64 = "t3.small" }
  tags = {
    Name         = "hello"
    Commit       = var.commit
    Architecture = var.architecture
  }
}

source "amazon-ebs" "hello" {
  region        = var.region
  subnet_id     = var.subnet_id
  instance_type = local.instance_type[var.architecture]

  ami_name        = "hello-${var.commit}-${var.architecture}"
  ami_description = "hello, commit ${var.commit}, on Debian 12"
  # The build instance requires version 2 of the metadata service, and so do all that start from the AMI.
  imds_support = "v2.0"
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  # Debian's own account; the newest has the fixes that are out.
  source_ami_filter {
    owners      = ["136693071363"]
    most_recent = true
    filters = {
      name                = "debian-12-${local.debian[var.architecture]}-*"
      architecture        = var.architecture
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  # A snapshot of an encrypted volume is encrypted: no copy is made for it at the end, as encrypt_boot would.
  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_size           = 8
    volume_type           = "gp3"
    iops                  = 3000
    throughput            = 125
    encrypted             = true
    kms_key_id            = var.kms_key_id
    delete_on_termination = true
  }

  # SSH for the build alone, with a key of its own, from the address of the machine that builds and no other.
  ssh_username                              = "admin"
  temporary_key_pair_type                   = "ed25519"
  temporary_security_group_source_public_ip = true
  ssh_clear_authorized_keys                 = true

  tags          = local.tags
  snapshot_tags = local.tags
  run_tags      = { Name = "hello-ami-build", Commit = var.commit }
}

build {
  sources = ["source.amazon-ebs.hello"]

  provisioner "shell" {
    inline = ["cloud-init status --wait >/dev/null", "mkdir /tmp/bundle"]
  }
  provisioner "file" {
    source      = "${var.bundle}/"
    destination = "/tmp/bundle"
  }
  provisioner "shell" {
    inline = ["sudo /tmp/bundle/provision.sh --ec2 --agents", "rm -rf /tmp/bundle"]
  }
}
