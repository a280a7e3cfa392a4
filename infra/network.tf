# Three zones: public subnets for the load balancer, private ones for what serves.

locals {
  zones           = var.zones != null ? var.zones : slice(data.aws_availability_zones.all.names, 0, min(3, length(data.aws_availability_zones.all.names)))
  public_subnets  = { for number in range(3) : tostring(number) => cidrsubnet(var.vpc_cidr, 4, number) }
  private_subnets = { for number in range(3) : tostring(number) => cidrsubnet(var.vpc_cidr, 4, number + 8) }
}

resource "aws_vpc" "vpc" {
  #checkov:skip=CKV2_AWS_11: flow logs keep callers' addresses; who may reach whom is in firewall.tf, whole

  cidr_block           = var.vpc_cidr
  enable_dns_hostnames = true # the endpoints' names lead into the VPC

  tags = { Name = var.name }
}

resource "aws_default_security_group" "none" { # nobody gets rights by forgetting to name a group
  vpc_id = aws_vpc.vpc.id
}

resource "aws_internet_gateway" "internet" {
  vpc_id = aws_vpc.vpc.id

  tags = { Name = var.name }
}

resource "aws_subnet" "public" {
  for_each = local.public_subnets

  vpc_id            = aws_vpc.vpc.id
  availability_zone = local.zones[each.key]
  cidr_block        = each.value

  tags = { Name = "${var.name}-public-${each.key}" }

  lifecycle {
    ignore_changes = [availability_zone] # chosen once, whichever zones are added or fail later
  }
}

resource "aws_subnet" "private" {
  for_each = local.private_subnets

  vpc_id            = aws_vpc.vpc.id
  availability_zone = local.zones[each.key]
  cidr_block        = each.value

  tags = { Name = "${var.name}-private-${each.key}" }

  lifecycle {
    ignore_changes = [availability_zone] # chosen once, whichever zones are added or fail later
  }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.vpc.id

  tags = { Name = "${var.name}-public" }
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.internet.id
}

resource "aws_route_table_association" "public" {
  for_each = aws_subnet.public

  subnet_id      = each.value.id
  route_table_id = aws_route_table.public.id
}

resource "aws_route_table" "private" {
  vpc_id = aws_vpc.vpc.id

  tags = { Name = "${var.name}-private" }
}

resource "aws_route_table_association" "private" {
  for_each = aws_subnet.private

  subnet_id      = each.value.id
  route_table_id = aws_route_table.private.id
}

resource "aws_eip" "nat" {
  count = var.nat ? 1 : 0

  domain = "vpc"

  tags = { Name = "${var.name}-nat" }
}

resource "aws_nat_gateway" "nat" {
  count = var.nat ? 1 : 0

  subnet_id     = aws_subnet.public["0"].id
  allocation_id = aws_eip.nat[0].id

  tags = { Name = var.name }

  depends_on = [aws_internet_gateway.internet]
}

resource "aws_route" "nat" {
  count = var.nat ? 1 : 0

  route_table_id         = aws_route_table.private.id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.nat[0].id
}
