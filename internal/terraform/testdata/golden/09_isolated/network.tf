data "aws_availability_zones" "available" {
  count = var.availability_zones == null ? 1 : 0
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

# The numbers of the zones are the keys of what is made in them.
locals {
  availability_zones = var.availability_zones != null ? var.availability_zones : slice(data.aws_availability_zones.available[0].names, 0, 2)
  zones = {
    "1" = 0
    "2" = 1
  }
}

resource "aws_vpc" "this" {
  cidr_block           = "10.0.0.0/16"
  enable_dns_hostnames = true
  enable_dns_support   = true
  tags = {
    Name = "isolated"
  }
}

# No rules: nothing is reached through the default security group.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id
}

resource "aws_subnet" "private" {
  for_each                = local.zones
  vpc_id                  = aws_vpc.this.id
  availability_zone       = local.availability_zones[each.value]
  cidr_block              = cidrsubnet(aws_vpc.this.cidr_block, 1, each.value)
  map_public_ip_on_launch = false
  tags = {
    Name                              = "isolated-private-${each.key}"
    "kubernetes.io/role/internal-elb" = "1"
  }
}

resource "aws_route_table" "private" {
  for_each = local.zones
  vpc_id   = aws_vpc.this.id
  tags = {
    Name = "isolated-private-${each.key}"
  }
}

# What the cluster, its nodes and the plugin call, since there is no way to the internet.
resource "aws_security_group" "endpoints" {
  name_prefix = "isolated-endpoints-"
  description = "VPC endpoints of an EKS cluster: HTTPS from the VPC"
  vpc_id      = aws_vpc.this.id
  tags = {
    Name = "isolated-endpoints"
  }
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  security_group_id = aws_security_group.endpoints.id
  description       = "HTTPS from the VPC"
  cidr_ipv4         = aws_vpc.this.cidr_block
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [for table in aws_route_table.private : table.id]
  tags = {
    Name = "isolated-s3"
  } # the layers of images in ECR, and what a custom resource answers CloudFormation
}

resource "aws_vpc_endpoint" "ec2" {
  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${local.region}.ec2"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for key in sort(keys(aws_subnet.private)) : aws_subnet.private[key].id]
  security_group_ids  = [aws_security_group.endpoints.id]
  tags = {
    Name = "isolated-ec2"
  } # network interfaces of the pods and the state of nodes
}

resource "aws_vpc_endpoint" "ecr_api" {
  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${local.region}.ecr.api"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for key in sort(keys(aws_subnet.private)) : aws_subnet.private[key].id]
  security_group_ids  = [aws_security_group.endpoints.id]
  tags = {
    Name = "isolated-ecr_api"
  } # access to images in ECR
}

resource "aws_vpc_endpoint" "ecr_dkr" {
  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${local.region}.ecr.dkr"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for key in sort(keys(aws_subnet.private)) : aws_subnet.private[key].id]
  security_group_ids  = [aws_security_group.endpoints.id]
  tags = {
    Name = "isolated-ecr_dkr"
  } # the images in ECR
}

resource "aws_vpc_endpoint" "eks" {
  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${local.region}.eks"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for key in sort(keys(aws_subnet.private)) : aws_subnet.private[key].id]
  security_group_ids  = [aws_security_group.endpoints.id]
  tags = {
    Name = "isolated-eks"
  } # nodes that join, and the kubectl handler, ask for the cluster
}

resource "aws_vpc_endpoint" "eks_auth" {
  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${local.region}.eks-auth"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for key in sort(keys(aws_subnet.private)) : aws_subnet.private[key].id]
  security_group_ids  = [aws_security_group.endpoints.id]
  tags = {
    Name = "isolated-eks_auth"
  } # Pod Identity, from which the plugin has its credentials
}

resource "aws_vpc_endpoint" "kms" {
  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${local.region}.kms"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for key in sort(keys(aws_subnet.private)) : aws_subnet.private[key].id]
  security_group_ids  = [aws_security_group.endpoints.id]
  tags = {
    Name = "isolated-kms"
  } # the plugin
}

resource "aws_vpc_endpoint" "logs" {
  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${local.region}.logs"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for key in sort(keys(aws_subnet.private)) : aws_subnet.private[key].id]
  security_group_ids  = [aws_security_group.endpoints.id]
  tags = {
    Name = "isolated-logs"
  } # agents on the nodes that send logs
}

resource "aws_vpc_endpoint" "sts" {
  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${local.region}.sts"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for key in sort(keys(aws_subnet.private)) : aws_subnet.private[key].id]
  security_group_ids  = [aws_security_group.endpoints.id]
  tags = {
    Name = "isolated-sts"
  } # credentials of nodes and of the kubectl handler
}

resource "aws_route_table_association" "private" {
  for_each       = local.zones
  subnet_id      = aws_subnet.private[each.key].id
  route_table_id = aws_route_table.private[each.key].id
}
