# The table as src/hello/stores/dynamodb_schema.py makes it: the same key and index.

locals {
  table_name = coalesce(var.table_name, var.name)
}

resource "aws_dynamodb_table" "people" {
  #checkov:skip=CKV_AWS_119: aws/dynamodb serves: IAM says who reads; a key of our own could be lost, and the people with it

  count = var.store == "dynamodb" ? 1 : 0

  name                        = local.table_name
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "key"
  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "key"
    type = "S"
  }

  attribute {
    name = "shard"
    type = "N"
  }

  attribute {
    name = "birthday"
    type = "S"
  }

  global_secondary_index {
    name            = "birthdays"
    hash_key        = "shard"
    range_key       = "birthday"
    projection_type = "ALL"
  }

  point_in_time_recovery {
    enabled = true
  }

  # aws/dynamodb, the account's own key, whose use CloudTrail tells.
  server_side_encryption {
    enabled = true
  }
}
