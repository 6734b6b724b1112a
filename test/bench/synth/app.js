// The stack of `ekskms synth` without a configuration, written in JavaScript:
// what the benchmark compares with. It builds the same construct tree, so that
// the template is the same; main.go checks that.
//
// usage: node app.js input.json outdir [fleet]
//
// With fleet it builds the clusters of the input that share their record.

const fs = require('node:fs');
const cdk = require('aws-cdk-lib');
const cloudtrail = require('aws-cdk-lib/aws-cloudtrail');
const cloudwatch = require('aws-cdk-lib/aws-cloudwatch');
const ec2 = require('aws-cdk-lib/aws-ec2');
const ecrAssets = require('aws-cdk-lib/aws-ecr-assets');
const eks = require('aws-cdk-lib/aws-eks-v2');
const events = require('aws-cdk-lib/aws-events');
const iam = require('aws-cdk-lib/aws-iam');
const kms = require('aws-cdk-lib/aws-kms');
const lambda = require('aws-cdk-lib/aws-lambda');
const logs = require('aws-cdk-lib/aws-logs');
const s3 = require('aws-cdk-lib/aws-s3');
const sns = require('aws-cdk-lib/aws-sns');
const sqs = require('aws-cdk-lib/aws-sqs');
const { Construct } = require('constructs');

let clusterName = 'ekskms'; // of the stack that is being built
const namespace = 'ekskms-system';
const serviceAccount = 'kms-plugin';

const arn = (stack, service, resource) =>
  `arn:${stack.partition}:${service}:${stack.region}:${stack.account}:${resource}`;
const clusterArn = (stack) => arn(stack, 'eks', `cluster/${clusterName}`);

// fill puts values, which may be CDK tokens, in the place of @NAMES@.
function fill(data, values) {
  let text = JSON.stringify(data);
  for (const [name, value] of Object.entries(values)) text = text.replaceAll(name, value);
  return JSON.parse(text);
}

const policyDocument = (statements) => iam.PolicyDocument.fromJson({ Version: '2012-10-17', Statement: statements });
const policyStatement = (statement) => iam.PolicyStatement.fromJson(statement);

// accountAdministration lets the account root run a key, but not use it.
function accountAdministration(stack) {
  return {
    Sid: 'AccountAdministration',
    Effect: 'Allow',
    Principal: { AWS: `arn:${stack.partition}:iam::${stack.account}:root` },
    Action: [
      'kms:CancelKeyDeletion',
      'kms:CreateAlias',
      'kms:DeleteAlias',
      'kms:DescribeKey',
      'kms:DisableKey',
      'kms:DisableKeyRotation',
      'kms:EnableKey',
      'kms:EnableKeyRotation',
      'kms:GetKeyPolicy',
      'kms:GetKeyRotationStatus',
      'kms:ListGrants',
      'kms:ListKeyPolicies',
      'kms:ListKeyRotations',
      'kms:ListResourceTags',
      'kms:PutKeyPolicy',
      'kms:RevokeGrant',
      'kms:RotateKeyOnDemand',
      'kms:ScheduleKeyDeletion',
      'kms:TagResource',
      'kms:UntagResource',
      'kms:UpdateAlias',
      'kms:UpdateKeyDescription',
    ],
    Resource: '*',
  };
}

const rotatingKey = {
  enableKeyRotation: true,
  rotationPeriod: cdk.Duration.days(90),
  pendingWindow: cdk.Duration.days(30),
  removalPolicy: cdk.RemovalPolicy.RETAIN,
};

class SecretsKey extends Construct {
  constructor(scope, id) {
    super(scope, id);
    const stack = cdk.Stack.of(this);
    this.key = new kms.Key(this, 'Resource', {
      ...rotatingKey,
      description: `Encrypts the Kubernetes secrets of EKS cluster ${clusterName}`,
      multiRegion: false,
      policy: policyDocument([accountAdministration(stack)]),
    });
    this.aliasName = `alias/eks/${clusterName}`;
    new kms.Alias(this, 'Alias', { aliasName: this.aliasName, targetKey: this.key });
    this.creatorArn =
      `arn:${stack.partition}:iam::${stack.account}:role/` +
      `cdk-${stack.synthesizer.bootstrapQualifier}-cfn-exec-role-${stack.account}-${stack.region}`;
    this.allow({
      Sid: 'ClusterCreatorsDescribe',
      Effect: 'Allow',
      Principal: { AWS: this.creatorArn },
      Action: 'kms:DescribeKey',
      Resource: '*',
    });
    this.allow({
      Sid: 'ClusterCreatorsGrant',
      Effect: 'Allow',
      Principal: { AWS: this.creatorArn },
      Action: 'kms:CreateGrant',
      Resource: '*',
      Condition: {
        StringEquals: { 'kms:GrantConstraintType': ['EncryptionContextEquals', 'EncryptionContextSubset'] },
        'ForAllValues:StringNotEqualsIgnoreCase': { 'kms:EncryptionContextKeys': ['ekskms:cluster-arn', 'ekskms:tenant'] },
      },
    });
  }

  allow(statement) {
    this.key.addToResourcePolicy(policyStatement(statement), false);
  }

  grantClusterRole(role) {
    this.allow({
      Sid: 'ClusterRole',
      Effect: 'Allow',
      Principal: { AWS: role.roleArn },
      Action: ['kms:DescribeKey', 'kms:ListGrants'],
      Resource: '*',
    });
  }

  grantPluginUse(role) {
    const cluster = clusterArn(cdk.Stack.of(this));
    const session = {
      'aws:PrincipalTag/eks-cluster-arn': cluster,
      'aws:PrincipalTag/kubernetes-namespace': namespace,
      'aws:PrincipalTag/kubernetes-service-account': serviceAccount,
    };
    const statements = [
      {
        Sid: 'PluginDescribe',
        Effect: 'Allow',
        Action: ['kms:DescribeKey', 'kms:ListGrants'],
        Condition: { StringEquals: session },
      },
      {
        Sid: 'PluginUse',
        Effect: 'Allow',
        Action: ['kms:Decrypt', 'kms:GenerateDataKey'],
        Condition: {
          'ForAllValues:StringEquals': { 'kms:EncryptionContextKeys': 'ekskms:cluster-arn' },
          StringEquals: { ...session, 'kms:EncryptionContext:ekskms:cluster-arn': cluster },
        },
      },
    ];
    for (const statement of statements) {
      this.allow({ ...statement, Principal: { AWS: role.roleArn }, Resource: '*' });
    }
    for (const statement of statements) {
      role.addToPrincipalPolicy(policyStatement({ ...statement, Resource: this.key.keyArn }));
    }
  }
}

class AuditTrail extends Construct {
  constructor(scope, id, { secretsKey, input }) {
    super(scope, id);
    const stack = cdk.Stack.of(this);
    this.trailName = `ekskms-${clusterName}-${stack.region}`;
    this.trailArn = arn(stack, 'cloudtrail', `trail/${this.trailName}`);
    const topicName = `ekskms-${clusterName}-alarms`;
    const topicArn = arn(stack, 'sns', topicName);
    this.key = new kms.Key(this, 'Key', {
      ...rotatingKey,
      alias: `alias/eks/${clusterName}/audit`,
      description: `Encrypts the audit trail of ${subject(secretsKey)}`,
      policy: policyDocument([
        accountAdministration(stack),
        {
          Sid: 'TrailDescribe',
          Effect: 'Allow',
          Principal: { Service: 'cloudtrail.amazonaws.com' },
          Action: 'kms:DescribeKey',
          Resource: '*',
          Condition: { StringEquals: { 'aws:SourceArn': this.trailArn } },
        },
        {
          Sid: 'TrailEncryptsLogs',
          Effect: 'Allow',
          Principal: { Service: 'cloudtrail.amazonaws.com' },
          Action: 'kms:GenerateDataKey*',
          Resource: '*',
          Condition: {
            StringEquals: {
              'aws:SourceArn': this.trailArn,
              'kms:EncryptionContext:aws:cloudtrail:arn': this.trailArn,
            },
          },
        },
      ]),
    });
    this.createTrail(stack);
    this.topicKey = new kms.Key(this, 'AlarmsKey', {
      ...rotatingKey,
      alias: `alias/eks/${clusterName}/alarms`,
      description: `Encrypts the alarms of ${subject(secretsKey)}`,
      policy: policyDocument([
        accountAdministration(stack),
        {
          Sid: 'AlarmsThroughTopic',
          Effect: 'Allow',
          Principal: { Service: 'events.amazonaws.com' },
          Action: ['kms:Decrypt', 'kms:GenerateDataKey*'],
          Resource: '*',
          Condition: { StringEquals: { 'kms:EncryptionContext:aws:sns:topicArn': topicArn } },
        },
      ]),
    });
    const lostTopicName = `ekskms-${clusterName}-undelivered`;
    const lostTopicArn = arn(stack, 'sns', lostTopicName);
    this.createTopics(stack, topicName, topicArn, lostTopicName, lostTopicArn);
    this.createWaysOut(stack, subject(secretsKey));
    if (!secretsKey) {
      this.raise(this, stack, input.alarmPaths, fill(input.fleet.shared, {
        ...places(stack),
        '@BUCKET@': this.bucket.bucketName,
        '@AUDIT_KEY_ARN@': this.key.keyArn,
        '@ALARMS_KEY_ARN@': this.topicKey.keyArn,
      }));
      return;
    }
    this.raise(this, stack, input.alarmPaths, fill(input.alarms, {
      '@KEY_ARN@': secretsKey.key.keyArn,
      '@ALIAS_ARN@': arn(stack, 'kms', secretsKey.aliasName),
      '@TRAIL_NAME@': this.trailName,
      '@TRAIL_ARN@': this.trailArn,
      '@BUCKET@': this.bucket.bucketName,
      '@AUDIT_KEY_ARN@': this.key.keyArn,
      '@ALARMS_KEY_ARN@': this.topicKey.keyArn,
      '@TOPIC_ARN@': topicArn,
      '@LOST_TOPIC_ARN@': lostTopicArn,
    }));
  }

  createTrail(stack) {
    const bucket = this.bucket = new s3.Bucket(this, 'Logs', {
      blockPublicAccess: s3.BlockPublicAccess.BLOCK_ALL,
      enforceSSL: true,
      minimumTLSVersion: 1.2,
      objectOwnership: s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
      versioned: true,
      removalPolicy: cdk.RemovalPolicy.RETAIN,
      encryption: s3.BucketEncryption.S3_MANAGED,
      lifecycleRules: [{
        id: 'Retention',
        enabled: true,
        expiration: cdk.Duration.days(365),
        noncurrentVersionExpiration: cdk.Duration.days(365),
        abortIncompleteMultipartUploadAfter: cdk.Duration.days(7),
      }],
    });
    bucket.addToResourcePolicy(policyStatement({
      Sid: 'TrailReadsBucketACL',
      Effect: 'Allow',
      Principal: { Service: 'cloudtrail.amazonaws.com' },
      Action: 's3:GetBucketAcl',
      Resource: bucket.bucketArn,
      Condition: { StringEquals: { 'aws:SourceArn': this.trailArn } },
    }));
    bucket.addToResourcePolicy(policyStatement({
      Sid: 'TrailWritesLogs',
      Effect: 'Allow',
      Principal: { Service: 'cloudtrail.amazonaws.com' },
      Action: 's3:PutObject',
      Resource: `${bucket.bucketArn}/AWSLogs/${stack.account}/*`,
      Condition: { StringEquals: { 'aws:SourceArn': this.trailArn, 's3:x-amz-acl': 'bucket-owner-full-control' } },
    }));
    bucket.policy.applyRemovalPolicy(cdk.RemovalPolicy.RETAIN);
    const trail = this.trail = new cloudtrail.Trail(this, 'Trail', {
      trailName: this.trailName,
      bucket: s3.Bucket.fromBucketName(this, 'LogsByName', bucket.bucketName),
      encryptionKey: this.key,
      enableFileValidation: true,
      isMultiRegionTrail: true,
      includeGlobalServiceEvents: true,
      managementEvents: cloudtrail.ReadWriteType.ALL,
    });
    trail.node.addDependency(bucket.policy);
  }

  createTopics(stack, topicName, topicArn, lostTopicName, lostTopicArn) {
    const tlsOnly = (Resource) => ({
      Sid: 'TLSOnly',
      Effect: 'Deny',
      Principal: { AWS: '*' },
      Action: 'sns:Publish',
      Resource,
      Condition: { Bool: { 'aws:SecureTransport': 'false' } },
    });
    this.topic = new sns.Topic(this, 'Alarms', {
      topicName,
      displayName: `EKS key alarms ${clusterName}`,
      masterKey: this.topicKey,
    });
    new sns.TopicPolicy(this, 'AlarmsPolicy', { topics: [this.topic] }).document.addStatements(
      policyStatement({
        Sid: 'AlarmRules',
        Effect: 'Allow',
        Principal: { Service: 'events.amazonaws.com' },
        Action: 'sns:Publish',
        Resource: topicArn,
      }),
      policyStatement(tlsOnly(topicArn)),
    );
    this.lostTopic = new sns.Topic(this, 'Undelivered', { topicName: lostTopicName, displayName: `EKS lost alarms ${clusterName}` });
    new sns.TopicPolicy(this, 'UndeliveredPolicy', { topics: [this.lostTopic] }).document.addStatements(
      policyStatement({
        Sid: 'UndeliveredAlarm',
        Effect: 'Allow',
        Principal: { Service: 'cloudwatch.amazonaws.com' },
        Action: 'sns:Publish',
        Resource: lostTopicArn,
        Condition: {
          ArnEquals: { 'aws:SourceArn': arn(stack, 'cloudwatch', `alarm:ekskms-${clusterName}-undelivered`) },
          StringEquals: { 'aws:SourceAccount': stack.account },
        },
      }),
      policyStatement(tlsOnly(lostTopicArn)),
    );
  }

  createWaysOut(stack, subject) {
    const ruleArns = arn(stack, 'events', `rule/ekskms-${clusterName}-*`);
    this.queue = new sqs.Queue(this, 'UndeliveredQueue', {
      queueName: `ekskms-${clusterName}-undelivered`,
      encryption: sqs.QueueEncryption.SQS_MANAGED,
      retentionPeriod: cdk.Duration.days(14),
    });
    new sqs.QueuePolicy(this, 'UndeliveredQueuePolicy', { queues: [this.queue] }).document.addStatements(
      policyStatement({
        Sid: 'AlarmRules',
        Effect: 'Allow',
        Principal: { Service: 'events.amazonaws.com' },
        Action: 'sqs:SendMessage',
        Resource: this.queue.queueArn,
        Condition: { ArnLike: { 'aws:SourceArn': ruleArns } },
      }),
      policyStatement({
        Sid: 'TLSOnly',
        Effect: 'Deny',
        Principal: { AWS: '*' },
        Action: 'sqs:*',
        Resource: this.queue.queueArn,
        Condition: { Bool: { 'aws:SecureTransport': 'false' } },
      }),
    );
    const logGroupName = `/aws/events/ekskms/${clusterName}/alarms`;
    new cloudwatch.CfnAlarm(this, 'UndeliveredAlarm', {
      alarmName: `ekskms-${clusterName}-undelivered`,
      alarmDescription: `${subject}: an alarm did not arrive. Read it with 'aws sqs receive-message', or in the log group ${logGroupName}, and find out why.`,
      namespace: 'AWS/SQS',
      metricName: 'ApproximateNumberOfMessagesVisible',
      dimensions: [{ name: 'QueueName', value: this.queue.queueName }],
      statistic: 'Maximum',
      period: 60,
      evaluationPeriods: 1,
      comparisonOperator: 'GreaterThanThreshold',
      threshold: 0,
      treatMissingData: 'notBreaching',
      actionsEnabled: true,
      alarmActions: [this.lostTopic.topicArn],
    });
    this.log = new logs.LogGroup(this, 'AlarmLog', {
      logGroupName,
      retention: logs.RetentionDays.ONE_YEAR,
      removalPolicy: cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    });
    const writer = { Service: ['events.amazonaws.com', 'delivery.logs.amazonaws.com'] };
    const group = arn(stack, 'logs', `log-group:${logGroupName}`);
    new logs.ResourcePolicy(this, 'AlarmLogPolicy', {
      resourcePolicyName: `ekskms-${clusterName}-alarms`,
      policyStatements: [
        policyStatement({ Sid: 'AlarmStreams', Effect: 'Allow', Principal: writer, Action: 'logs:CreateLogStream', Resource: `${group}:*` }),
        policyStatement({
          Sid: 'AlarmRules',
          Effect: 'Allow',
          Principal: writer,
          Action: 'logs:PutLogEvents',
          Resource: `${group}:*:*`,
          Condition: { ArnLike: { 'aws:SourceArn': ruleArns } },
        }),
      ],
    });
  }

  // raise makes the rules of the input: their texts are long, and belong into a file of
  // their own.
  raise(scope, stack, inputPathsMap, rules) {
    raise(scope, inputPathsMap, rules, {
      topic: this.topic.topicArn, log: arn(stack, 'logs', `log-group:${this.log.logGroupName}`), queue: this.queue.queueArn,
    });
  }
}

function raise(scope, inputPathsMap, rules, { topic, log, queue }) {
  const delivery = {
    deadLetterConfig: { arn: queue },
    retryPolicy: { maximumEventAgeInSeconds: 3600, maximumRetryAttempts: 185 },
  };
  for (const rule of rules) {
    new events.CfnRule(scope, `Alarm${rule.ID}`, {
      name: rule.Name,
      description: rule.Description,
      state: 'ENABLED',
      eventPattern: rule.Pattern,
      targets: [
        { id: 'Topic', arn: topic, inputTransformer: { inputPathsMap: rule.Paths ?? inputPathsMap, inputTemplate: rule.Template }, ...delivery },
        { id: 'Log', arn: log, ...delivery },
      ],
    });
  }
}

// subject is what a shared record speaks of, or that of one cluster.
const subject = (secretsKey) => secretsKey ? `EKS cluster ${clusterName}` : 'the EKS clusters of this account and Region';

// places are what the texts of a fleet have for the place of a stack.
const places = (stack) => ({
  '${Token[partition]}': stack.partition, '${Token[account]}': stack.account, '${Token[region]}': stack.region,
});

// createRole makes a role whose trust policy is exactly the statement.
function createRole(scope, id, props, trust) {
  const role = new iam.Role(scope, id, {
    ...props,
    assumedBy: new iam.ServicePrincipal(trust.Principal.Service),
  });
  role.node.defaultChild.addPropertyOverride('AssumeRolePolicyDocument', { Version: '2012-10-17', Statement: [trust] });
  return role;
}

class KmsPlugin extends Construct {
  constructor(scope, id, { cluster, secretsKey, input }) {
    super(scope, id);
    const stack = cdk.Stack.of(this);
    const image = new ecrAssets.DockerImageAsset(this, 'Image', {
      directory: input.imageDir,
      platform: ecrAssets.Platform.LINUX_AMD64,
      buildArgs: { TARGETOS: 'linux', TARGETARCH: 'amd64' },
    });
    this.role = createRole(this, 'Role', {
      description: `Lets the KMS plugin on EKS cluster ${clusterName} use the key of its secrets`,
    }, {
      Sid: 'PodIdentity',
      Effect: 'Allow',
      Principal: { Service: 'pods.eks.amazonaws.com' },
      Action: ['sts:AssumeRole', 'sts:TagSession'],
      Condition: {
        StringEquals: {
          'aws:RequestTag/eks-cluster-arn': clusterArn(stack),
          'aws:RequestTag/kubernetes-namespace': namespace,
          'aws:RequestTag/kubernetes-service-account': serviceAccount,
        },
      },
    });
    secretsKey.grantPluginUse(this.role);
    const association = new eks.CfnPodIdentityAssociation(this, 'PodIdentity', {
      clusterName: cluster.clusterName,
      namespace,
      serviceAccount,
      roleArn: this.role.roleArn,
    });
    const manifest = fill(input.plugin, {
      'the-name-of-the-cluster': clusterName,
      '@IMAGE@': image.imageUri,
      '@KEY_ARN@': secretsKey.key.keyArn,
      '@CLUSTER_ARN@': clusterArn(stack),
    });
    this.manifest = new eks.KubernetesManifest(this, 'Manifest', { cluster, manifest });
    this.manifest.node.addDependency(association);
  }
}

class EncryptedCluster extends Construct {
  constructor(scope, id, { vpc, secretsKey, auditTrail, input }) {
    super(scope, id);
    const stack = cdk.Stack.of(this);
    const role = createRole(this, 'ClusterRole', {
      description: `Role of EKS cluster ${clusterName}`,
      path: '/',
      managedPolicies: [iam.ManagedPolicy.fromAwsManagedPolicyName('AmazonEKSClusterPolicy')],
    }, {
      Sid: 'ThisCluster',
      Effect: 'Allow',
      Principal: { Service: 'eks.amazonaws.com' },
      Action: ['sts:AssumeRole', 'sts:TagSession'],
      Condition: {
        ArnEquals: { 'aws:SourceArn': clusterArn(stack) },
        StringEquals: { 'aws:SourceAccount': stack.account },
      },
    });
    secretsKey.grantClusterRole(role);

    const logGroupName = `/aws/eks/${clusterName}/cluster`;
    const logsKey = new kms.Key(this, 'LogsKey', {
      ...rotatingKey,
      removalPolicy: cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
      alias: `alias/eks/${clusterName}/logs`,
      description: `Encrypts the control-plane logs of EKS cluster ${clusterName}`,
      policy: policyDocument([
        accountAdministration(stack),
        {
          Sid: 'LogGroup',
          Effect: 'Allow',
          Principal: { Service: `logs.${stack.region}.${stack.urlSuffix}` },
          Action: ['kms:Decrypt', 'kms:DescribeKey', 'kms:Encrypt', 'kms:GenerateDataKey*', 'kms:ReEncrypt*'],
          Resource: '*',
          Condition: {
            ArnEquals: {
              'kms:EncryptionContext:aws:logs:arn': [arn(stack, 'logs', `log-group:${logGroupName}`), arn(stack, 'logs', `log-group:/ekskms/${clusterName}/kubectl`)],
            },
          },
        },
      ]),
    });
    const logGroup = new logs.LogGroup(this, 'Logs', {
      logGroupName,
      retention: logs.RetentionDays.ONE_YEAR,
      encryptionKey: logsKey,
      removalPolicy: cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    });

    const kubectlLayer = new lambda.LayerVersion(this, 'KubectlLayer', {
      code: lambda.Code.fromAsset(input.kubectlLayer.zip, { assetHash: input.kubectlLayer.hash }),
      description: '/opt/kubectl/kubectl 1.34.0; /opt/helm/helm 3.19.0',
      license: 'Apache-2.0',
    });
    this.cluster = new eks.Cluster(this, 'Cluster', {
      clusterName,
      version: eks.KubernetesVersion.V1_35,
      vpc,
      vpcSubnets: [{ subnetType: ec2.SubnetType.PRIVATE_WITH_EGRESS }],
      endpointAccess: eks.EndpointAccess.PRIVATE,
      role,
      defaultCapacityType: eks.DefaultCapacityType.AUTOMODE,
      clusterLogging: [
        eks.ClusterLoggingTypes.API,
        eks.ClusterLoggingTypes.AUDIT,
        eks.ClusterLoggingTypes.AUTHENTICATOR,
        eks.ClusterLoggingTypes.CONTROLLER_MANAGER,
        eks.ClusterLoggingTypes.SCHEDULER,
      ],
      secretsEncryptionKey: secretsKey.key,
      bootstrapClusterCreatorAdminPermissions: false,
      outputConfigCommand: false,
      kubectlProviderOptions: { kubectlLayer },
    });
    const resource = this.cluster.node.defaultChild;
    resource.deletionProtection = true;
    resource.node.addDependency(logGroup, role);
    this.logsKey = logsKey;
    auditTrail?.raise(this, stack, input.alarmPaths, fill(input.clusterAlarms, { '@LOGS_KEY_ARN@': logsKey.keyArn }));
    this.pinHandler(stack, auditTrail, logsKey);

    this.plugin = new KmsPlugin(this, 'KmsPlugin', { cluster: this.cluster, secretsKey, input });
    const networkPolicies = new eks.KubernetesManifest(this, 'NetworkPolicies', {
      cluster: this.cluster,
      manifest: fill(input.networkPolicies, {}), // a copy, to which the CDK adds a label
    });
    this.plugin.manifest.node.addDependency(networkPolicies);
  }

  // pinHandler closes the functions that apply Kubernetes objects.
  pinHandler(stack, auditTrail, logsKey) {
    const group = new logs.LogGroup(this, 'KubectlLogs', {
      logGroupName: `/ekskms/${clusterName}/kubectl`,
      retention: logs.RetentionDays.ONE_WEEK,
      encryptionKey: logsKey,
      removalPolicy: cdk.RemovalPolicy.DESTROY,
    });
    const provider = this.cluster.node.findChild('KubectlProvider');
    const names = [`ekskms-${clusterName}-kubectl`, `ekskms-${clusterName}-kubectl-framework`];
    const functions = [provider.node.findChild('Handler'), provider.node.findChild('Provider').node.findChild('framework-onEvent')];
    for (const [i, f] of functions.entries()) {
      f.node.defaultChild.functionName = names[i];
      f.node.tryRemoveChild('LogGroup');
      f.node.defaultChild.loggingConfig = { logGroup: group.logGroupName };
      f.node.findChild('ServiceRole').node.defaultChild.assumeRolePolicyDocument = policyDocument([{
        Sid: 'FunctionsHere',
        Effect: 'Allow',
        Principal: { Service: 'lambda.amazonaws.com' },
        Action: 'sts:AssumeRole',
        Condition: { StringEquals: { 'aws:SourceAccount': stack.account } },
      }]);
    }
    auditTrail?.trail.addEventSelector(
      cloudtrail.DataResourceType.LAMBDA_FUNCTION,
      names.map((name) => arn(stack, 'lambda', `function:${name}`)),
      { includeManagementEvents: false, readWriteType: cloudtrail.ReadWriteType.ALL },
    );
  }
}

class EncryptedClusterStack extends cdk.Stack {
  constructor(scope, id, input, shares = false) {
    super(scope, id, {
      description: `EKS cluster ${clusterName} with secrets encrypted under a customer-managed key (ekskms)`,
      terminationProtection: true,
    });
    const vpc = new ec2.Vpc(this, 'Vpc', {
      ipAddresses: ec2.IpAddresses.cidr('10.0.0.0/16'),
      maxAzs: 2,
      natGateways: 1,
      restrictDefaultSecurityGroup: true,
    });
    const secretsKey = new SecretsKey(this, 'SecretsKey');
    const auditTrail = shares ? undefined : new AuditTrail(this, 'AuditTrail', { secretsKey, input });
    const { cluster, plugin, logsKey } = new EncryptedCluster(this, 'EncryptedCluster', { vpc, secretsKey, auditTrail, input });

    const output = (outputId, description, value, exported) =>
      new cdk.CfnOutput(this, outputId, { description, value, exportName: shares && exported ? `${id}-${outputId}` : undefined });
    output('ClusterName', 'Name of the EKS cluster', cluster.clusterName);
    output('UpdateKubeconfig', 'Command that makes kubectl talk to the cluster',
      `aws eks update-kubeconfig --name ${cluster.clusterName} --region ${this.region}`);
    output('KeyArn', 'ARN of the key that encrypts the secrets', secretsKey.key.keyArn, true);
    if (shares) output('LogsKeyArn', 'ARN of the key that encrypts the logs of the control plane', logsKey.keyArn, true);
    output('TrailArn', 'ARN of the trail that records every use of the key',
      auditTrail?.trailArn ?? arn(this, 'cloudtrail', `trail/ekskms-shared-${this.region}`));
    output('TopicArn', 'ARN of the topic that receives the alarms', auditTrail?.topic.topicArn ?? arn(this, 'sns', 'ekskms-shared-alarms'));
    output('TestAlarm', 'Command that changes nothing and raises the alarm AliasChanged, to see one arrive',
      `aws kms update-alias --alias-name ${secretsKey.aliasName} --target-key-id ${secretsKey.key.keyArn} --region ${this.region}`);
    output('PluginRoleArn', "ARN of the KMS plugin's IAM role", plugin.role.roleArn);
  }
}

// fleet builds clusters that share their record, with the stacks around them.
function fleet(app, input) {
  const protectedStack = (id, description) => new cdk.Stack(app, id, { description, terminationProtection: true });
  clusterName = 'shared';
  const shared = protectedStack('ekskms-shared', 'Audit trail and alarm topic of the EKS clusters in this account and Region (ekskms)');
  const { trail } = new AuditTrail(shared, 'AuditTrail', { input });
  const functions = input.fleet.names.flatMap((name) => [`ekskms-${name}-kubectl`, `ekskms-${name}-kubectl-framework`]);
  trail.addEventSelector(
    cloudtrail.DataResourceType.LAMBDA_FUNCTION,
    functions.map((name) => arn(shared, 'lambda', `function:${name}`)),
    { includeManagementEvents: false, readWriteType: cloudtrail.ReadWriteType.ALL },
  );
  const alarms = protectedStack('ekskms-alarms', 'Alarms on the keys of the EKS clusters in this account and Region (ekskms)');
  const values = places(alarms);
  for (const name of input.fleet.names) {
    clusterName = name;
    new EncryptedClusterStack(app, `ekskms-${name}`, input, true).addStackDependency(shared);
    for (const key of ['KeyArn', 'LogsKeyArn']) values['${Token[' + key + ' ' + name + ']}'] = cdk.Fn.importValue(`ekskms-${name}-${key}`);
  }
  raise(new Construct(alarms, 'Alarms'), input.alarmPaths, fill(input.fleet.alarms, values), {
    topic: arn(alarms, 'sns', 'ekskms-shared-alarms'),
    log: arn(alarms, 'logs', 'log-group:/aws/events/ekskms/shared/alarms'),
    queue: arn(alarms, 'sqs', 'ekskms-shared-undelivered'),
  });
}

const [inputFile, outdir, what] = process.argv.slice(2);
const input = JSON.parse(fs.readFileSync(inputFile, 'utf8'));
const app = new cdk.App({ outdir, context: input.context, analyticsReporting: false });
if (what === 'fleet') fleet(app, input);
else new EncryptedClusterStack(app, `ekskms-${clusterName}`, input);
app.synth();
