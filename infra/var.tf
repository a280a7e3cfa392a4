# What runs

variable "release" {
  description = "What runs. bump.sh writes it into version.auto.tfvars.json; null creates all but the service. `ami` is for machines."
  type = object({
    commit = string
    digest = optional(string)
    ami    = optional(string)
  })
  default = null

  validation {
    condition     = var.release == null || can(regex("^[0-9a-f]{40}$", var.release.commit))
    error_message = "The commit of a release is its full name, 40 hexadecimal digits. ./bump.sh writes it."
  }

  validation {
    condition     = var.release == null || var.compute != "fargate" || can(regex("^sha256:[0-9a-f]{64}$", var.release.digest))
    error_message = "A release for Fargate has the digest of its image, sha256:<64 hexadecimal digits>. ./bump.sh writes it."
  }

  validation {
    condition     = var.release == null || var.compute != "ec2" || can(regex("^ami-[0-9a-f]{8,17}$", var.release.ami))
    error_message = "A release for EC2 has the ID of its AMI, ami-<hexadecimal digits>. ./bump.sh writes it."
  }
}

variable "compute" {
  description = "What the service runs on: \"fargate\", or \"ec2\" for high load: docs/capacity.md says from when on. Chosen once: docs/aws.md."
  type        = string
  default     = "fargate"
  nullable    = false

  validation {
    condition     = contains(["fargate", "ec2"], var.compute)
    error_message = "compute is \"fargate\" or \"ec2\"."
  }
}

variable "architecture" {
  description = "Processors that it runs on: \"ARM64\" (a fifth cheaper) or \"X86_64\". The image has to be built for it."
  type        = string
  default     = "ARM64"
  nullable    = false

  validation {
    condition     = contains(["ARM64", "X86_64"], var.architecture)
    error_message = "architecture is \"ARM64\" or \"X86_64\"."
  }
}

variable "cpu" {
  description = "CPU units of a task, 1024 to a vCPU. There is one worker process for each vCPU."
  type        = number
  default     = 256
  nullable    = false

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096], var.cpu)
    error_message = "Fargate has 256, 512, 1024, 2048 and 4096 CPU units."
  }
}

variable "memory" {
  description = "MiB of a task: from 2 to 8 for each CPU unit."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.memory >= 2 * var.cpu && var.memory <= min(8 * var.cpu, 30720) && (var.memory == 512 || var.memory % 1024 == 0)
    error_message = "Fargate takes 512 or whole multiples of 1024 MiB, from 2 to 8 times the CPU units, and 30720 at most."
  }
}

variable "instance_types" {
  description = "Types of EC2 instances, the best first, all with as many vCPUs; null is c7g.large and its like, or c7i.large and its like for X86_64."
  type        = list(string)
  default     = null

  validation {
    condition     = try(length(var.instance_types) > 0 && alltrue([for type in var.instance_types : can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", type))]), var.instance_types == null)
    error_message = "instance_types are types such as c7g.large, and one at least."
  }
}

variable "spot" {
  description = "Take half of the EC2 instances above min_count from Spot, which costs less than half, and may be taken away after two minutes."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.spot || var.compute == "ec2"
    error_message = "spot is for compute = \"ec2\"."
  }
}

variable "desired_count" {
  description = "Tasks or instances that the service begins with. From then on autoscaling decides."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.desired_count >= var.min_count && var.desired_count <= var.max_count
    error_message = "desired_count lies between min_count and max_count."
  }
}

variable "min_count" {
  description = "Fewest tasks or instances. With one, its replacement is seen by callers: minutes of 502 and 503."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.min_count >= 2 && floor(var.min_count) == var.min_count
    error_message = "min_count is a whole number from 2 on: one task alone can't be replaced without downtime."
  }
}

variable "max_count" {
  description = "Most tasks or instances: the bound of what a flood can cost."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.max_count >= var.min_count && var.max_count <= 1000 && floor(var.max_count) == var.max_count
    error_message = "max_count is a whole number from min_count to 1000."
  }
}

variable "cpu_target" {
  description = "Percent of CPU that autoscaling keeps the tasks at, for work that requests don't tell: docs/capacity.md."
  type        = number
  default     = 80
  nullable    = false

  validation {
    condition     = var.cpu_target >= 10 && var.cpu_target <= 90
    error_message = "cpu_target is 10 to 90 percent."
  }
}

variable "requests_target" {
  description = "Requests a minute and task, or instance, that autoscaling aims at; null is 60,000 for each vCPU, which leaves room for a crowd: docs/capacity.md."
  type        = number
  default     = null

  validation {
    condition     = coalesce(var.requests_target, 100) >= 100
    error_message = "requests_target is 100 or more."
  }
}

# The application

variable "store" {
  description = "Where people are kept: \"dynamodb\" (a table is made) or \"postgresql\" (give database_url_secret_arn)."
  type        = string
  default     = "dynamodb"
  nullable    = false

  validation {
    condition     = contains(["dynamodb", "postgresql"], var.store)
    error_message = "store is \"dynamodb\" or \"postgresql\"."
  }
}

variable "table_name" {
  description = "Name of the DynamoDB table; null is `name`. Another after a restore, which makes a new table: docs/aws.md."
  type        = string
  default     = null

  validation {
    condition     = var.table_name == null || can(regex("^[a-zA-Z0-9_.-]{3,255}$", var.table_name))
    error_message = "table_name is 3 to 255 of a-z, A-Z, 0-9, _, . and -."
  }
}

variable "database_url_secret_arn" {
  description = "ARN of the secret in Secrets Manager whose whole value is the URL postgresql://user:password@host/database. Encrypted with aws/secretsmanager."
  type        = string
  default     = null

  validation {
    condition     = var.database_url_secret_arn == null || can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:", var.database_url_secret_arn))
    error_message = "database_url_secret_arn is the ARN of a secret: arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME."
  }

  validation {
    condition     = (var.store == "postgresql") == (var.database_url_secret_arn != null)
    error_message = "store = \"postgresql\" and database_url_secret_arn go together."
  }
}

variable "database_cidr" {
  description = "Network that PostgreSQL is in, on port 5432; null is this VPC. Another needs a way there: peering, or nat = true."
  type        = string
  default     = null

  validation {
    condition     = var.database_cidr == null || can(cidrnetmask(var.database_cidr))
    error_message = "database_cidr is an IPv4 network, such as 10.1.0.0/16."
  }
}

variable "timezone" {
  description = "IANA time zone that decides which day is today, where a request names none."
  type        = string
  default     = "UTC"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z]+(/[A-Za-z0-9_+-]+)*$", var.timezone))
    error_message = "timezone is an IANA name, such as Europe/Berlin."
  }
}

variable "leap_day" {
  description = "When those born on 29 February have their birthday in common years: \"feb28\" or \"mar1\"."
  type        = string
  default     = "feb28"
  nullable    = false

  validation {
    condition     = contains(["feb28", "mar1"], var.leap_day)
    error_message = "leap_day is \"feb28\" or \"mar1\"."
  }
}

variable "oidc_issuer" {
  description = "Honour the tokens of this OpenID Connect issuer, an https URL. Needs nat = true: its keys are fetched from there."
  type        = string
  default     = null

  validation {
    condition     = var.oidc_issuer == null || can(regex("^https://", var.oidc_issuer))
    error_message = "oidc_issuer is an https URL."
  }

  validation {
    condition     = (var.oidc_issuer == null) == (var.oidc_audience == null)
    error_message = "oidc_issuer and oidc_audience go together."
  }

  validation {
    condition     = var.oidc_issuer == null || var.nat
    error_message = "With nat = false the tasks can't reach an issuer: set nat = true."
  }
}

variable "oidc_audience" {
  description = "The audience that a token must be for; goes with the issuer."
  type        = string
  default     = null

  validation {
    condition     = var.oidc_audience == null || try(length(var.oidc_audience) > 0, false)
    error_message = "oidc_audience is not empty."
  }
}

# Where

variable "name" {
  description = "Prefix of every name, so that several can live in one account."
  type        = string
  default     = "hello"
  nullable    = false

  validation { # a target group's name has 32 characters
    condition     = can(regex("^[a-z][a-z0-9-]{1,19}[a-z0-9]$", var.name))
    error_message = "name is 3 to 21 of a-z, 0-9 and -, begins with a letter and does not end in -."
  }
}

variable "region" {
  description = "AWS region."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region is the name of an AWS region, such as eu-central-1."
  }
}

variable "access_key" {
  description = "Access key; null takes AWS's usual credential chain: environment, profile, SSO, role."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = (var.access_key == null) == (var.secret_key == null)
    error_message = "access_key and secret_key go together. Without both, the usual credential chain is used."
  }
}

variable "secret_key" {
  description = "Secret of the access key."
  type        = string
  default     = null
  sensitive   = true
}

variable "zones" {
  description = "Three availability zones; null takes the region's first three. A zone may lack a service: us-east-1's use1-az3, whose name differs by account."
  type        = list(string)
  default     = null

  validation {
    condition     = var.zones == null || try(length(distinct(var.zones)) == 3, false)
    error_message = "zones are three different ones, such as [\"us-east-1a\", \"us-east-1b\", \"us-east-1c\"]."
  }
}

variable "vpc_cidr" {
  description = "Network of the VPC, /16 to /20: three public and three private subnets of a sixteenth each."
  type        = string
  default     = "10.0.0.0/16"
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && can(regex("/(1[6-9]|20)$", var.vpc_cidr))
    error_message = "vpc_cidr is an IPv4 network from /16 to /20, such as 10.0.0.0/16."
  }
}

variable "nat" {
  description = <<-EOT
    How tasks reach AWS. false: by VPC endpoints, 4 in each of 3 zones, .01 USD an hour each (87.60 a month) and .01 a GB; no way
    out to the internet, and none is missing when a zone fails. true: by one NAT gateway, .045 USD an hour (32.85 a month) and
    .045 a GB; tasks reach the internet, as an OIDC issuer needs, and while its zone fails no new task can start.
    (us-east-1, 2026.) S3 and DynamoDB go through gateway endpoints either way, which cost nothing.
  EOT
  type        = bool
  default     = false
  nullable    = false
}

variable "allowed_cidrs" {
  description = "IPv4 networks that may reach the load balancer."
  type        = set(string)
  default     = ["0.0.0.0/0"]
  nullable    = false

  validation {
    condition     = length(var.allowed_cidrs) > 0 && alltrue([for cidr in var.allowed_cidrs : can(cidrnetmask(cidr))])
    error_message = "allowed_cidrs are IPv4 networks, such as 192.0.2.0/24, and one at least."
  }
}

variable "domain" {
  description = "Name to serve under, by TLS on port 443; its certificate and its record are made in the zone zone_id. null: HTTP on port 5000 alone, where keys go in clear."
  type        = string
  default     = null

  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "domain is a name such as hello.example.org."
  }

  validation {
    condition     = var.domain == null || var.zone_id != null || var.certificate_arn != null
    error_message = "A domain needs zone_id, the Route 53 zone to put its record and certificate in, or certificate_arn."
  }

  validation {
    condition     = var.domain != null || (var.zone_id == null && var.certificate_arn == null)
    error_message = "zone_id and certificate_arn need the domain: under the load balancer's own name no certificate is good."
  }
}

variable "zone_id" {
  description = "Route 53 zone of the domain."
  type        = string
  default     = null

  validation {
    condition     = var.zone_id == null || can(regex("^Z[A-Z0-9]+$", var.zone_id))
    error_message = "zone_id is the ID of a Route 53 zone, such as Z0123456789ABCDEFGHIJ."
  }
}

variable "certificate_arn" {
  description = "Certificate in ACM to serve with, in place of one that is made. Give the domain that it is for."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null || can(regex("^arn:[a-z-]+:acm:[a-z0-9-]+:[0-9]{12}:certificate/", var.certificate_arn))
    error_message = "certificate_arn is the ARN of a certificate in ACM."
  }
}

# Protection and observation

variable "deletion_protection" {
  description = "Keep load balancer, table, images and secrets from being destroyed. To tear down, apply false first."
  type        = bool
  default     = true
  nullable    = false
}

variable "waf" {
  description = "Put AWS WAF in front: a limit of requests by address, and AWS's lists of bad inputs and addresses. 8 USD a month and .60 a million requests."
  type        = bool
  default     = false
  nullable    = false
}

variable "waf_rate" {
  description = "Requests from one address in five minutes, past which WAF answers 429."
  type        = number
  default     = 10000
  nullable    = false

  validation {
    condition     = var.waf_rate >= 10 && var.waf_rate <= 2000000000
    error_message = "waf_rate is 10 to 2,000,000,000."
  }
}

variable "alarm_email" {
  description = "Address that alarms are sent to, once it confirms; null sends none."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null || can(regex("^[^@ ]+@[^@ ]+$", var.alarm_email))
    error_message = "alarm_email is an e-mail address."
  }
}

variable "log_retention_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "kept_images" {
  description = "Newest commits whose images the registry keeps, at least: how far back a rollback can go. What runs has to be one of them."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.kept_images >= 10 && floor(var.kept_images) == var.kept_images
    error_message = "kept_images is a whole number from 10 on."
  }
}

variable "github_repository" {
  description = "OWNER/NAME of the repository on GitHub whose main branch may push images, by OpenID Connect; null makes no role for it."
  type        = string
  default     = null

  validation {
    condition     = var.github_repository == null || can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github_repository))
    error_message = "github_repository is OWNER/NAME."
  }
}

variable "github_provider_arn" {
  description = "The account's identity provider for GitHub, where it has one: an account can't have two. null makes it."
  type        = string
  default     = null

  validation {
    condition     = var.github_provider_arn == null || can(regex("^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/token.actions.githubusercontent.com$", var.github_provider_arn))
    error_message = "github_provider_arn ends in :oidc-provider/token.actions.githubusercontent.com."
  }
}
