package terraform

import (
	"fmt"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/place"
)

// kubernetes writes the objects that belong on the cluster. Its API can be reached
// from the VPC only, and no provider reaches an API that its own run makes: so they
// are an output, and applied by kubectl where that is asked for.
func (m *module) kubernetes() (*file, error) {
	f := newFile("kubernetes.tf")
	image, asksImage := "", false
	if m.c.Plugin != nil {
		image, asksImage = m.c.Plugin.Image, m.c.Plugin.Image == ""
	}
	if asksImage {
		image = ref("var.plugin_image")
	}
	all, err := m.c.Objects(image)
	objects := all.All()
	if err != nil || len(objects) == 0 {
		return f, err
	}
	if asksImage {
		m.variables.add("", "variable", []string{"plugin_image"}, func(b body) {
			b.set("description", "Container image of the KMS plugin, with a tag or a digest: build it from the Dockerfile of ekskms, or set plugin.image in ekskms.yaml.")
			b.set("type", raw("string"))
			b.block("validation", nil, func(b body) {
				b.set("condition", raw(`can(regex("^[^[:space:]]+[:@][^[:space:]/]+$", var.plugin_image))`))
				b.set("error_message", "Name an image with a tag or a digest, such as registry.example.com/kms-plugin:v1.")
			})
		})
	}
	m.variables.add("", "variable", []string{"apply_manifests"}, func(b body) {
		b.set("description", "Whether to apply the Kubernetes objects with the commands aws and kubectl of the machine that runs Terraform. It must reach the Kubernetes API, and its credentials need an access entry that lets them make the objects. Default: the output kubernetes_manifests is for you to apply.")
		b.set("type", raw("bool"))
		b.set("default", false)
	})
	maps, err := manifest.Maps(objects)
	if err != nil {
		return nil, err
	}
	list := make([]any, len(maps))
	for i := range maps {
		list[i] = maps[i]
	}
	f.add("What belongs on the cluster, in the order in which to apply it.", "locals", nil, func(b body) {
		b.set("kubernetes_objects", list)
		b.set("kubernetes_manifests", raw(`join("---\n", [for object in local.kubernetes_objects : yamlencode(object)])`))
	})
	f.resource("", "terraform_data", "kubernetes_objects", func(b body) {
		b.set("count", raw("var.apply_manifests ? 1 : 0"))
		b.set("triggers_replace", raw("[aws_eks_cluster.this.arn, sha256(local.kubernetes_manifests)]"))
		b.block("provisioner", []string{"local-exec"}, func(b body) {
			b.set("interpreter", []string{"/bin/sh", "-euc"})
			b.set("command", applyCommand)
			b.set("environment", map[string]any{
				"CLUSTER":   raw("aws_eks_cluster.this.name"),
				"REGION":    raw("local.region"),
				"MANIFESTS": raw("local.kubernetes_manifests"),
			})
		})
		var waits []string
		if m.c.Plugin != nil {
			waits = append(waits, "aws_eks_pod_identity_association.plugin")
		}
		if len(m.c.AllAccessEntries()) > 0 {
			waits = append(waits, "aws_eks_access_policy_association.this")
		}
		if m.c.NodeGroup != nil {
			waits = append(waits, "aws_eks_node_group.this")
		}
		if len(waits) > 0 {
			b.set("depends_on", rawList(waits))
		}
	})
	return f, nil
}

// applyCommand leaves the kubeconfig of whoever runs it alone.
const applyCommand = "KUBECONFIG=$(mktemp)\n" +
	"export KUBECONFIG\n" +
	"trap 'rm -f \"$KUBECONFIG\"' EXIT\n" +
	"aws eks update-kubeconfig --name \"$CLUSTER\" --region \"$REGION\" --kubeconfig \"$KUBECONFIG\" >/dev/null\n" +
	"printf '%s' \"$MANIFESTS\" | kubectl apply --server-side -f -"

func (m *module) outputs(hasObjects bool) *file {
	f := newFile("outputs.tf")
	output := func(o blueprint.Output, value any) { f.output(snake(o.ID), o.Description, value) }
	output(blueprint.OutputClusterName, raw("aws_eks_cluster.this.name"))
	output(blueprint.OutputUpdateKubeconfig, blueprint.UpdateKubeconfig(ref("aws_eks_cluster.this.name"), ref("local.region")))
	output(blueprint.OutputKeyARN, m.c.KeyARN())
	if m.c.Key.ARN != "" {
		f.output("existing_key_policy_statements", "What the owner of the existing key must add to its policy, as a JSON list of statements: "+
			"those that name no role of this module before it is applied, the others after it",
			jsonencode(plain(m.c.AddedStatements())))
	}
	trail := any(raw("aws_cloudtrail.this.arn"))
	if !m.c.NewTrail() {
		trail = m.c.Trail().ARN
	}
	output(blueprint.OutputTrailARN, trail)
	output(blueprint.OutputTopicARN, m.topicARN())
	if m.c.Plugin != nil {
		output(blueprint.OutputPluginRoleARN, raw("aws_iam_role.plugin.arn"))
	}
	if hasObjects {
		f.output("kubernetes_manifests", "What belongs on the cluster: terraform output -raw kubernetes_manifests | kubectl apply --server-side -f -",
			raw("local.kubernetes_manifests"))
	}
	return f
}

// keyOutputs are those of the module that is the key alone, under the names that
// terraform-aws-eks gives its inputs.
func (m *module) keyOutputs() *file {
	f := newFile("outputs.tf")
	creators := ""
	if m.asksCreators {
		creators = "\n    creator_arns = [\"arn:aws:iam::111122223333:role/Deployer\"] # whoever runs terraform apply"
	}
	f.comment(fmt.Sprintf(keyUsage, creators, m.c.Name))
	f.AppendNewline()
	f.output("key_arn", blueprint.OutputKeyARN.Description, m.c.KeyARN())
	f.output("create_kms_key", "Whether terraform-aws-eks makes a key: it does not", false)
	f.output("encryption_config", "encryption_config of terraform-aws-eks", map[string]any{
		"provider_key_arn": m.c.KeyARN(), "resources": []string{"secrets"},
	})
	f.output("iam_role_path", "iam_role_path of terraform-aws-eks: the key policy lets the cluster's role in by it", place.ClusterRolePath(m.c.Name))
	if m.c.Plugin != nil {
		f.output("plugin_role_arn", blueprint.OutputPluginRoleARN.Description+", for an aws_eks_pod_identity_association", raw("aws_iam_role.plugin.arn"))
	}
	if m.c.Plugin != nil && len(m.c.Plugin.Tenants) > 0 {
		f.output("tenant_role_arns", "ARNs of the IAM roles of the tenants' KMS plugins, by tenant", raw("{ for name, role in aws_iam_role.tenant : name => role.arn }"))
	}
	return f
}

const keyUsage = `With terraform-aws-eks 21, where this folder is ./key:

  module "key" {
    source = "./key"%s
  }

  module "eks" {
    source  = "terraform-aws-modules/eks/aws"
    version = "~> 21.0"
    name    = %q

    create_kms_key    = module.key.create_kms_key
    encryption_config = module.key.encryption_config
    iam_role_path     = module.key.iam_role_path
  }

Version 20 calls the second input cluster_encryption_config.`
