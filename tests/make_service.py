"""Makes an ECS service behind a load balancer, and as little else as there can be, by boto3.

    make_service.py ENDPOINT '{"commit": …, "delay": …, "service": {…}, "group": {…}, "container": {…}}'

It prints the ARN of the target group. The values are parameters of CreateService, CreateTargetGroup and of
the container's definition; "delay" is the deregistration delay.
"""

import json
import sys

import boto3

endpoint, wanted = sys.argv[1], json.loads(sys.argv[2])
names = ("ec2", "ecr", "ecs", "elbv2", "logs")
ec2, ecr, ecs, elb, logs = (boto3.client(name, "us-east-1", endpoint_url=endpoint) for name in names)

vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]][:2]
balancer = elb.create_load_balancer(Name="hello", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
group = elb.create_target_group(
    Name="hello", VpcId=vpc, Port=5000, Protocol="HTTP", TargetType="ip", **wanted["group"]
)["TargetGroups"][0]["TargetGroupArn"]
delay = {"Key": "deregistration_delay.timeout_seconds", "Value": str(wanted["delay"])}
elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=[delay])
elb.create_listener(
    LoadBalancerArn=balancer,
    Port=5000,
    Protocol="HTTP",
    DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
)
url = ecr.create_repository(repositoryName="hello")["repository"]["repositoryUri"]
manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}
image = ecr.put_image(repositoryName="hello", imageManifest=json.dumps(manifest), imageTag=wanted["commit"])
logs.create_log_group(logGroupName="hello")
log = {
    "logDriver": "awslogs",
    "options": {"awslogs-group": "hello", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "hello"},
}
container = {
    "name": "hello",
    "memory": 256,
    "image": f"{url}@{image['image']['imageId']['imageDigest']}",
    "portMappings": [{"containerPort": 5000}],
    "logConfiguration": log,
    **wanted["container"],
}
definition = ecs.register_task_definition(
    family="hello",
    networkMode="awsvpc",
    requiresCompatibilities=["FARGATE"],
    containerDefinitions=[container],
)["taskDefinition"]["taskDefinitionArn"]
ecs.create_cluster(clusterName="hello")
ecs.create_service(
    cluster="hello",
    serviceName="hello",
    taskDefinition=definition,
    launchType="FARGATE",
    loadBalancers=[{"targetGroupArn": group, "containerName": "hello", "containerPort": 5000}],
    **wanted["service"],
)
print(group)
