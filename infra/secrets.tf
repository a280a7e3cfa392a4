locals {
  recovery_days = var.deletion_protection ? 30 : 0
}

# The entries of API keys, a JSON list: names, scopes and digests, which let nobody in. The list is empty at
# first, so that the service begins closed; add-key.sh writes it from then on, and Terraform leaves it alone.
resource "aws_secretsmanager_secret" "keys" {
  #checkov:skip=CKV_AWS_149: aws/secretsmanager serves: IAM says who reads it, and no other account has to
  #checkov:skip=CKV2_AWS_57: digests of keys that callers hold, who have to get the new ones: docs/aws.md

  name                    = "${var.name}/keys"
  description             = "API key entries of ${var.name}, the value of HELLO_KEYS"
  recovery_window_in_days = local.recovery_days
}

resource "aws_secretsmanager_secret_version" "keys" {
  secret_id     = aws_secretsmanager_secret.keys.id
  secret_string = "[]"

  lifecycle {
    ignore_changes = [secret_string]
  }
}

# The key that integration-test.sh calls the service with. Terraform never sees it: add-key.sh writes it.
resource "aws_secretsmanager_secret" "integration_test" {
  #checkov:skip=CKV_AWS_149: as above
  #checkov:skip=CKV2_AWS_57: add-key.sh makes another, and a function that could write secrets would be worth more

  name                    = "${var.name}/integration-test"
  description             = "API key of the integration test of ${var.name}"
  recovery_window_in_days = local.recovery_days
}
