"""Makes an ECS service behind a load balancer, and as little else as there can be, by boto3.

    python -m tests.support.make_service ENDPOINT '{"commit": …, "delay": …, "service": {…}, "group": {…}, …}'

It prints the ARN of the target group. The values are parameters of CreateService, CreateTargetGroup and of
the container's definition; "delay" is the deregistration delay.
"""

import json
import sys

from tests.support.make_balancer import balanced, clients

endpoint, wanted = sys.argv[1], json.loads(sys.argv[2])
ec2, ecr, ecs, elb, logs = clients(endpoint, "ec2", "ecr", "ecs", "elbv2", "logs")
group = balanced(ec2, elb, "ip", wanted["delay"], wanted["group"])
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
