package manifest

import (
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Host is what runs an API server as a pod on the cluster.
type Host string

const (
	// VCluster takes Helm values. Source: github.com/loft-sh/vcluster v0.30.0,
	// chart/values.schema.json.
	VCluster Host = "vcluster"
	// Kamaji takes fields of its TenantControlPlane. Source:
	// github.com/clastix/kamaji v1.0.0, charts/kamaji/crds.
	Kamaji Host = "kamaji"
	// Karmada takes fields of the Karmada of its operator. Source:
	// github.com/karmada-io/karmada v1.16.0, operator/config/crds.
	Karmada Host = "karmada"
	// Generic is a Deployment or StatefulSet whose pods run kube-apiserver.
	Generic Host = "generic"
)

// Hosts are all there are. HyperShift is none of them: its operator puts a plugin
// of its own into the API server's pod, and has no field for another
// (github.com/openshift/hypershift, control-plane-operator/controllers/
// hostedcontrolplane/v2/kas/kms/aws.go: containers aws-kms-active and
// aws-kms-backup of the release image).
func Hosts() []Host { return []Host{VCluster, Kamaji, Karmada, Generic} }

const (
	socketVolume     = "ekskms-socket"
	noTokenVolume    = "ekskms-no-token" //nolint:gosec // the name of an empty volume
	encryptionVolume = "ekskms-encryption"

	// karmadaServiceAccount: the operator names none for the API server's pods.
	karmadaServiceAccount = "default"
)

// SidecarInput is what differs from tenant to tenant.
type SidecarInput struct {
	Tenant         string // names the ConfigMap too
	Namespace      string // of the API server's pods
	ServiceAccount string // of the API server's pods, for Pod Identity

	KeyARN            string
	Image             string
	EncryptionContext map[string]string
	Region            string // Default: the plugin reads it from the key's ARN

	// APIServerGroup is the ID of the group as which the API server runs, which
	// owns the socket. Default: 0, for the API servers of all Hosts run as root
	// unless they are told otherwise.
	APIServerGroup int64
	// HealthPort is free on the pod's address. Default: DefaultSidecarHealthPort.
	HealthPort int32
	// Encryption is the API server's configuration. Its Endpoint stays empty.
	Encryption EncryptionInput

	// ControlPlane is the name of the TenantControlPlane, or of the Karmada.
	// Default: Tenant.
	ControlPlane string
	// Workload is deployment/NAME or statefulset/NAME, and Container the one in it
	// that runs kube-apiserver. Both are required with Generic, not allowed without.
	Workload, Container string
}

// Sidecars returns what puts the plugin into the pods of a tenant's API server. For
// VCluster it is one set of Helm values; for all others objects, some of them in
// part, for server-side apply: what they leave out stays as it is.
//
// The plugin is a native sidecar: the API server's container starts once the
// plugin listens, and ends before it. Karmada's operator can only put it beside the
// API server's container, which then asks again until the plugin is there.
func Sidecars(in SidecarInput, host Host) ([]any, error) {
	if in.HealthPort == 0 {
		in.HealthPort = DefaultSidecarHealthPort
	}
	if in.ControlPlane == "" {
		in.ControlPlane = in.Tenant
	}
	config, err := in.configMap()
	if err = errors.Join(in.check(host), err); err != nil {
		return nil, fmt.Errorf("manifest.Sidecars: %w", err)
	}
	switch host {
	case VCluster:
		values, err := in.vcluster(config)
		return []any{values}, err
	case Kamaji:
		objs := []any{config}
		if in.ServiceAccount != "default" {
			objs = append(objs, in.serviceAccount())
		}
		return append(objs, in.kamaji()), nil
	case Karmada:
		return []any{config, in.karmada()}, nil
	default:
		return []any{config, in.generic()}, nil
	}
}

func (in SidecarInput) check(host Host) error {
	var errs []error
	for field, value := range map[string]string{"KeyARN": in.KeyARN, "Image": in.Image} {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s is required", field))
		}
	}
	errs = append(errs, checkContext(in.EncryptionContext)...)
	for field, value := range map[string]string{"Tenant": in.Tenant, "Namespace": in.Namespace} {
		if problems := validation.IsDNS1123Label(value); len(problems) > 0 {
			errs = append(errs, fmt.Errorf("%s is %q: %s", field, value, problems[0]))
		}
	}
	for field, value := range map[string]string{"ServiceAccount": in.ServiceAccount, "ControlPlane": in.ControlPlane} {
		if problems := validation.IsDNS1123Subdomain(value); len(problems) > 0 {
			errs = append(errs, fmt.Errorf("%s is %q: %s", field, value, problems[0]))
		}
	}
	if in.HealthPort < 1 || in.HealthPort > 65535 {
		errs = append(errs, fmt.Errorf("HealthPort is %d, must be 1 to 65535", in.HealthPort))
	}
	if in.APIServerGroup < 0 {
		errs = append(errs, fmt.Errorf("APIServerGroup is %d, must be 0 or more", in.APIServerGroup))
	}
	if in.Encryption.Endpoint != "" {
		errs = append(errs, fmt.Errorf("Encryption.Endpoint is %q, must be empty: the sidecar has its own", in.Encryption.Endpoint))
	}
	kind, workload, _ := strings.Cut(in.Workload, "/")
	switch {
	case host == Generic && (kind != "deployment" && kind != "statefulset" || len(validation.IsDNS1123Subdomain(workload)) > 0):
		errs = append(errs, fmt.Errorf("workload is %q, must be deployment/NAME or statefulset/NAME", in.Workload))
	case host == Generic && len(validation.IsDNS1123Label(in.Container)) > 0:
		errs = append(errs, fmt.Errorf("container is %q, must name the container that runs kube-apiserver", in.Container))
	case host != Generic && in.Workload+in.Container != "":
		errs = append(errs, fmt.Errorf("workload and container are for %q, not for %q", Generic, host))
	case host == Karmada && in.ServiceAccount != karmadaServiceAccount:
		errs = append(errs, fmt.Errorf("ServiceAccount is %q, must be %q: Karmada's operator lets the API server's pods have no other (plugin.tenants[].serviceAccount in ekskms.yaml)",
			in.ServiceAccount, karmadaServiceAccount))
	case host != VCluster && host != Kamaji && host != Karmada && host != Generic:
		errs = append(errs, fmt.Errorf("host is %q, must be one of %q", host, Hosts()))
	}
	return join(errs)
}

// container is the sidecar. The socket lies in a folder in memory that only it and
// the API server mount, and that is open to every user, as the kubelet makes it; so
// the socket's own mode decides who connects: the plugin's user, and the group as
// which the API server runs. The plugin runs as that group itself, and needs no
// right to give the socket away.
//
// No readiness probe: the API server's own readiness says what the plugin's Status
// says, and reads that still work should not lose their endpoint twice.
func (in SidecarInput) container(native bool) corev1.Container {
	p := process{
		image: in.Image, keyARN: in.KeyARN, region: in.Region, context: in.EncryptionContext,
		socket: socketVolume, healthPort: in.HealthPort, user: nonRoot, group: in.APIServerGroup,
		args: []string{"--socket-mode", "0660"},
		// Where something is mounted already, the API server adds no token to a
		// container (ServiceAccount admission). That of vCluster may do a lot on the
		// host cluster.
		mounts: []corev1.VolumeMount{{Name: noTokenVolume, MountPath: apiTokenDir, ReadOnly: true}},
	}
	c := p.container()
	if native {
		c.RestartPolicy = ptr(corev1.ContainerRestartPolicyAlways)
	}
	return c
}

func (in SidecarInput) volumes() []corev1.Volume {
	return []corev1.Volume{inMemory(socketVolume), inMemory(noTokenVolume), {
		Name: encryptionVolume,
		VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: in.configName()},
		}},
	}}
}

// mounts are those of the API server's container. To connect to a socket takes no
// write access to the folder that it is in. Folders, not single files: a file that
// is mounted alone never changes.
func (in SidecarInput) mounts() []corev1.VolumeMount {
	return []corev1.VolumeMount{
		{Name: socketVolume, MountPath: socketDir, ReadOnly: true},
		{Name: encryptionVolume, MountPath: EncryptionDir, ReadOnly: true},
	}
}

func (in SidecarInput) configName() string { return in.Tenant + "-encryption" }

// configMap holds the EncryptionConfiguration, which has no secret in it.
func (in SidecarInput) configMap() (*corev1.ConfigMap, error) {
	config, err := Encryption(in.Encryption)
	if err != nil {
		return nil, err
	}
	text, err := YAML([]any{config})
	if err != nil {
		return nil, err
	}
	return &corev1.ConfigMap{
		TypeMeta:   typeMeta("v1", "ConfigMap"),
		ObjectMeta: in.meta(in.configName()),
		Data:       map[string]string{EncryptionFile: string(text)},
	}, nil
}

func (in SidecarInput) serviceAccount() *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		TypeMeta:                     typeMeta("v1", "ServiceAccount"),
		ObjectMeta:                   in.meta(in.ServiceAccount),
		AutomountServiceAccountToken: ptr(false),
	}
}

func (in SidecarInput) meta(objectName string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: objectName, Namespace: in.Namespace, Labels: hostedLabels()}
}

func hostedLabels() map[string]string {
	return map[string]string{"app.kubernetes.io/part-of": "ekskms", "app.kubernetes.io/managed-by": "ekskms"}
}

// What follows are objects that are somebody else's, as far as they change, and the
// fields of three projects, spelled as they spell them: test/e2e/schemas holds them to the
// projects' schemas. They are no typed objects: those have fields that are written even
// where they are empty, and would be claimed from their owner.
type fields = map[string]any

func (in SidecarInput) object(apiVersion, kind, name string, spec fields) any {
	return fields{"apiVersion": apiVersion, "kind": kind, "metadata": fields{"name": name, "namespace": in.Namespace}, "spec": spec}
}

// generic is a Deployment or StatefulSet. Lists of flags can only be replaced as a
// whole, so the flags are not in it.
func (in SidecarInput) generic() any {
	kind, workload, _ := strings.Cut(in.Workload, "/")
	kinds := map[string]string{"deployment": "Deployment", "statefulset": "StatefulSet"}
	return in.object(appsv1.SchemeGroupVersion.String(), kinds[kind], workload, fields{"template": fields{"spec": fields{
		"serviceAccountName": in.ServiceAccount,
		"initContainers":     []corev1.Container{in.container(true)},
		"containers":         []fields{{"name": in.Container, "volumeMounts": in.mounts()}},
		"volumes":            in.volumes(),
	}}})
}

// kamaji is a TenantControlPlane.
func (in SidecarInput) kamaji() any {
	return in.object("kamaji.clastix.io/v1alpha1", "TenantControlPlane", in.ControlPlane, fields{"controlPlane": fields{"deployment": fields{
		"serviceAccountName":       in.ServiceAccount,
		"additionalInitContainers": []corev1.Container{in.container(true)},
		"additionalVolumes":        in.volumes(),
		"additionalVolumeMounts":   fields{"apiServer": in.mounts()},
		"extraArgs":                fields{"apiServer": flagStrings()},
	}}})
}

// karmada is a Karmada.
func (in SidecarInput) karmada() any {
	flags := fields{}
	for _, f := range APIServerFlags() {
		flags[f.Name] = f.Value
	}
	return in.object("operator.karmada.io/v1alpha1", "Karmada", in.ControlPlane, fields{"components": fields{"karmadaAPIServer": fields{
		"extraArgs":         flags,
		"extraVolumes":      in.volumes(),
		"extraVolumeMounts": in.mounts(),
		"sidecarContainers": []corev1.Container{in.container(false)},
	}}})
}

// vcluster are values of its Helm chart. The ConfigMap is among the manifests that
// the chart adds to its own, so that it is there before the pod.
func (in SidecarInput) vcluster(config *corev1.ConfigMap) (any, error) {
	text, err := YAML([]any{config})
	return fields{
		"controlPlane": fields{
			"advanced": fields{"serviceAccount": fields{"name": in.ServiceAccount}},
			"distro":   fields{"k8s": fields{"apiServer": fields{"extraArgs": flagStrings()}}},
			"statefulSet": fields{
				"initContainers": []corev1.Container{in.container(true)},
				"persistence":    fields{"addVolumes": in.volumes(), "addVolumeMounts": in.mounts()},
			},
		},
		"experimental": fields{"deploy": fields{"host": fields{"manifests": string(text)}}},
	}, err
}
