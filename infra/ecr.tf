resource "aws_ecr_repository" "hello" {
  #checkov:skip=CKV_AWS_136: AWS's key serves: images hold no secrets and no people

  name                 = var.name
  image_tag_mutability = "IMMUTABLE" # a commit's image is what it was when it was tested
  force_delete         = !var.deletion_protection

  image_scanning_configuration {
    scan_on_push = true
  }
}

# By count, not by age: what runs may be old, and is deleted only once so many newer ones were pushed. A commit is up
# to five images: one for each architecture, their list, and what signs it. ECR keeps what a list refers to as long as the list.
resource "aws_ecr_lifecycle_policy" "hello" {
  repository = aws_ecr_repository.hello.name

  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "The newest, by commit"
        selection = {
          tagStatus      = "tagged"
          tagPatternList = ["*"]
          countType      = "imageCountMoreThan"
          countNumber    = 5 * var.kept_images
        }
        action = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "What no tag leads to; ECR keeps the images of an index that is there"
        selection = {
          tagStatus   = "untagged"
          countType   = "sinceImagePushed"
          countUnit   = "days"
          countNumber = 14
        }
        action = { type = "expire" }
      },
    ]
  })
}
