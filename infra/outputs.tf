output "url" {
  description = "Where the service is."
  value       = local.tls ? "https://${var.domain}" : "http://${aws_lb.alb.dns_name}:${local.port}"
}

output "dns_name" {
  description = "Name of the load balancer."
  value       = aws_lb.alb.dns_name
}

output "region" {
  description = "AWS region."
  value       = var.region
}

output "repository_url" {
  description = "Where images are pushed to."
  value       = aws_ecr_repository.hello.repository_url
}

output "repository_name" {
  description = "Name of the repository in ECR."
  value       = aws_ecr_repository.hello.name
}

output "architecture" {
  description = "Processors that an image has to be built for: ARM64 or X86_64."
  value       = var.architecture
}

output "compute" {
  description = "What it runs on: fargate or ec2."
  value       = var.compute
}

output "cluster" {
  description = "Name of the ECS cluster, null on EC2."
  value       = one(aws_ecs_cluster.hello[*].name)
}

output "service" {
  description = "Name of the ECS service, or of the Auto Scaling Group, which a first release makes."
  value       = var.name
}

output "target_group_arn" {
  description = "The target group, whose health tells which tasks serve."
  value       = aws_lb_target_group.hello.arn
}

output "log_group" {
  description = "Log group of the service."
  value       = aws_cloudwatch_log_group.hello.name
}

output "release" {
  description = "Commit that runs, null before the first."
  value       = try(var.release.commit, null)
}

output "keys_secret" {
  description = "ARN of the secret with the API key entries."
  value       = aws_secretsmanager_secret.keys.arn
}

output "integration_test_secret" {
  description = "ARN of the secret with the integration test's key."
  value       = aws_secretsmanager_secret.integration_test.arn
}

output "etcd_secret" {
  description = "ARN of the secret with etcd's certificate authority and passwords, null on Fargate."
  value       = one(aws_secretsmanager_secret.etcd[*].arn)
}

output "etcd_ca_secret" {
  description = "ARN of the secret with the certificate of that authority, null on Fargate."
  value       = one(aws_secretsmanager_secret.etcd_ca[*].arn)
}

output "etcd_password_secret" {
  description = "ARN of the secret with the service's password in etcd, null on Fargate."
  value       = one(aws_secretsmanager_secret.etcd_password[*].arn)
}

output "table" {
  description = "Name of the DynamoDB table, null with PostgreSQL."
  value       = one(aws_dynamodb_table.people[*].name)
}

output "publisher_role_arn" {
  description = "Role for GitHub's workflow, null without github_repository."
  value       = one(aws_iam_role.publisher[*].arn)
}
