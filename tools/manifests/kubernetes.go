package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// A pod is what the kubelet would run of the example.
type pod struct {
	Args      []string         `json:"args"`
	Env       []core.EnvVar    `json:"env"`
	Ports     map[string]int32 `json:"ports"` // by name
	Files     map[string]file  `json:"files"` // by path
	User      int64            `json:"user"`
	Group     int64            `json:"group"`
	Readiness string           `json:"readiness"` // /path at a port's name
	Liveness  string           `json:"liveness"`
	Notices   int32            `json:"notices_seconds"` // until a failing readiness probe counts
	Grace     int64            `json:"grace_seconds"`   // from SIGTERM to SIGKILL
}

// A file is one of the pod's volumes. Known is false if its content isn't in the example.
type file struct {
	Content string `json:"content"`
	Mode    int32  `json:"mode"`
	Known   bool   `json:"known"`
}

// The objects of the example, each of which is there once.
type objects struct {
	config     *core.ConfigMap
	secret     *core.Secret
	deployment *apps.Deployment
	budget     *policy.PodDisruptionBudget
	service    *core.Service
}

// understandPod reads all objects strictly, as the API server does with fieldValidation=Strict, and compares them with each other.
func understandPod(text []byte) (*pod, error) {
	o, err := read(text)
	if err != nil {
		return nil, err
	}
	c := &checker{}
	c.names(o)
	spec := &o.deployment.Spec.Template.Spec
	c.labels(o)
	c.rights(spec)
	p := &pod{Files: c.files(o, spec), Ports: map[string]int32{}}
	if len(spec.Containers) != 1 {
		c.fail("the pod has %d containers, and not one", len(spec.Containers))
		return nil, c.err()
	}
	container := &spec.Containers[0]
	for _, port := range container.Ports {
		p.Ports[port.Name] = port.ContainerPort
	}
	for _, port := range o.service.Spec.Ports {
		if _, ok := p.Ports[port.TargetPort.String()]; !ok {
			c.fail("the service's port %s leads to %s, which is no port of the container", port.Name, port.TargetPort.String())
		}
	}
	p.Args, p.Env = container.Args, container.Env
	p.Readiness, p.Liveness = c.probe("readiness", container.ReadinessProbe, p.Ports), c.probe("liveness", container.LivenessProbe, p.Ports)
	if r := container.ReadinessProbe; r != nil {
		p.Notices = r.PeriodSeconds * r.FailureThreshold
	}
	if g := spec.TerminationGracePeriodSeconds; g != nil {
		p.Grace = *g
	}
	if s := spec.SecurityContext; s != nil && s.RunAsUser != nil && s.RunAsGroup != nil {
		p.User, p.Group = *s.RunAsUser, *s.RunAsGroup
	}
	return p, c.err()
}

// read decodes each document into its type: an unknown or doubled field is an error, also one that differs in case.
func read(text []byte) (objects, error) {
	var o objects
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{core.AddToScheme, apps.AddToScheme, policy.AddToScheme} {
		if err := add(scheme); err != nil {
			return o, err
		}
	}
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	var all []error
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return o, err
		}
		object, kind, err := strict.Decode(document, nil, nil)
		if err != nil {
			all = append(all, fmt.Errorf("%v: %w", kind, err))
			continue
		}
		switch object := object.(type) {
		case *core.ConfigMap:
			o.config = object
		case *core.Secret:
			o.secret = object
		case *apps.Deployment:
			o.deployment = object
		case *policy.PodDisruptionBudget:
			o.budget = object
		case *core.Service:
			o.service = object
		default:
			all = append(all, fmt.Errorf("%v isn't expected here", kind))
		}
	}
	if err := errors.Join(all...); err != nil {
		return o, err
	}
	if o.config == nil || o.secret == nil || o.deployment == nil || o.budget == nil || o.service == nil {
		return o, errors.New("ConfigMap, Secret, Deployment, PodDisruptionBudget and Service aren't all there")
	}
	return o, nil
}

// files are those of the container's volumes.
func (c *checker) files(o objects, spec *core.PodSpec) map[string]file {
	all := map[string]file{}
	volumes := map[string]core.Volume{}
	for _, v := range spec.Volumes {
		volumes[v.Name] = v
	}
	for _, container := range spec.Containers {
		for _, mount := range container.VolumeMounts {
			v, ok := volumes[mount.Name]
			if !ok {
				c.fail("%s is mounted at %s, and isn't among the volumes", mount.Name, mount.MountPath)
				continue
			}
			delete(volumes, mount.Name)
			for name, f := range c.volume(o, v) {
				all[path.Join(mount.MountPath, name)] = f
			}
		}
	}
	for name := range volumes {
		c.fail("the volume %s is mounted nowhere", name)
	}
	return all
}

// volume has the files of a volume, by their names in it.
func (c *checker) volume(o objects, v core.Volume) map[string]file {
	all, mode := map[string]file{}, core.ConfigMapVolumeSourceDefaultMode
	switch {
	case v.ConfigMap != nil && v.ConfigMap.Name == o.config.Name:
		for name, content := range o.config.Data {
			all[name] = file{content, mode, true}
		}
	case v.Secret != nil:
		if v.Secret.DefaultMode != nil {
			mode = *v.Secret.DefaultMode
		}
		if mode&0o040 == 0 || mode&0o007 != 0 {
			c.fail("the secret %s has the mode %#o: its files have to be readable by the group, and by no others", v.Name, mode)
		}
		switch {
		case v.Secret.SecretName == o.secret.Name:
			for name, content := range o.secret.StringData {
				all[name] = file{content, mode, true}
			}
		case len(v.Secret.Items) > 0:
			for _, item := range v.Secret.Items {
				all[item.Path] = file{"", mode, false}
			}
		default:
			c.fail("the secret %s is neither here, nor does the volume say what is in it", v.Secret.SecretName)
		}
	default:
		c.fail("the volume %s is of nothing that is here", v.Name)
	}
	return all
}
