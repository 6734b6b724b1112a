package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/runtime"

	_ "github.com/ekskms/ekskms" // embeds the sources of the image
	"github.com/ekskms/ekskms/internal/buildcontext"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/tamper"
)

// input is what app.js does not say itself: what is no CDK code, and would be
// files beside it in a JavaScript project.
type input struct {
	Context         map[string]any    `json:"context"`
	Alarms          []tamper.Rule     `json:"alarms"`        // with @NAMES@ for app.js to replace
	ClusterAlarms   []tamper.Rule     `json:"clusterAlarms"` // the same
	AlarmPaths      map[string]string `json:"alarmPaths"`
	ImageDir        string            `json:"imageDir"`
	KubectlLayer    layer             `json:"kubectlLayer"`
	Plugin          []map[string]any  `json:"plugin"` // the same
	NetworkPolicies []map[string]any  `json:"networkPolicies"`
	Fleet           fleet             `json:"fleet"`
}

// nameOfCluster stands for the name of a cluster in the plugin's objects.
const nameOfCluster = "the-name-of-the-cluster"

func (in input) write(path string) error {
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

type layer struct {
	Zip string `json:"zip"`
	// Hash is given, as in the layer's own package: neither program reads the
	// whole file for it.
	Hash string `json:"hash"`
}

// newInput makes the input of app.js, and writes the sources of the plugin's image to
// imageDir. root is the repository, assembly what ekskms made.
func newInput(root, imageDir, assembly string) (in input, err error) {
	cluster := config.Default().Clusters[0]
	objects, err := manifest.Plugin(manifest.PluginInput{
		ClusterName:       nameOfCluster,
		ClusterARN:        "@CLUSTER_ARN@",
		KeyARN:            "@KEY_ARN@",
		Image:             "@IMAGE@",
		EncryptionContext: map[string]string{keypolicy.ContextKey: "@CLUSTER_ARN@"},
		Mode:              manifest.Mode(cluster.Plugin.Mode),
		Architecture:      cluster.Plugin.Architecture,
	})
	if err != nil {
		return in, err
	}
	in = input{
		ImageDir:   imageDir,
		AlarmPaths: tamper.Paths(),
		Alarms: tamper.Rules(tamper.Input{
			ClusterName:  cluster.Name,
			KeyARN:       "@KEY_ARN@",
			AliasARN:     "@ALIAS_ARN@",
			TrailName:    "@TRAIL_NAME@",
			TrailARN:     "@TRAIL_ARN@",
			BucketName:   "@BUCKET@",
			LogGroups:    []string{place.ControlPlaneLogGroup(cluster.Name), place.AlarmLogGroup(cluster.Name)},
			AuditKeyARNs: []string{"@AUDIT_KEY_ARN@", "@ALARMS_KEY_ARN@"},
			TopicARNs:    []string{"@TOPIC_ARN@", "@LOST_TOPIC_ARN@"},
			MetricAlarm:  place.UndeliveredAlarm(cluster.Name),
			RulePrefix:   place.AlarmPrefix(cluster.Name),
		}),
		ClusterAlarms: tamper.Rules(tamper.Input{
			ClusterName:  cluster.Name,
			LogsKeyARN:   "@LOGS_KEY_ARN@",
			RulePrefix:   place.AlarmPrefix(cluster.Name),
			HandlerNames: []string{place.KubectlHandler(cluster.Name), place.KubectlFramework(cluster.Name)},
		}),
	}
	flags, err := os.ReadFile(filepath.Join(root, "internal", "synth", "context.json"))
	if err != nil {
		return in, err
	}
	if err := json.Unmarshal(flags, &in.Context); err != nil {
		return in, err
	}
	// As internal/synth sets them beside the feature flags.
	in.Context["@aws-cdk/core:failSynthOnValidationErrors"] = false
	in.Context["aws:cdk:enable-path-metadata"] = true
	in.Context["aws:cdk:disable-creation-stack-traces"] = true
	if in.Plugin, err = manifest.Maps(objects); err != nil {
		return in, err
	}
	if in.NetworkPolicies, err = manifest.Maps([]runtime.Object{manifest.EnableNetworkPolicies()}); err != nil {
		return in, err
	}
	if err := os.Mkdir(imageDir, 0o755); err != nil {
		return in, err
	}
	if err := buildcontext.Write(imageDir); err != nil {
		return in, err
	}
	if in.KubectlLayer, err = kubectlLayer(assembly); err != nil {
		return in, err
	}
	return in, nil
}

func kubectlLayer(assembly string) (layer, error) {
	assets, err := readAssets(assembly)
	if err != nil {
		return layer{}, err
	}
	const name = "EncryptedCluster/KubectlLayer/Code"
	for hash, file := range assets.Files {
		if file.DisplayName == name {
			return layer{Zip: filepath.Join(assembly, file.Source.Path), Hash: hash}, nil
		}
	}
	return layer{}, fmt.Errorf("the assembly of ekskms has no asset %s", name)
}
