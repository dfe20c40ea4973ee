package main

import (
	"errors"
	"fmt"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// checker collects what doesn't fit.
type checker struct{ all []error }

func (c *checker) fail(format string, args ...any) {
	c.all = append(c.all, fmt.Errorf(format, args...))
}

func (c *checker) err() error { return errors.Join(c.all...) }

// names: all objects are in one namespace.
func (c *checker) names(o objects) {
	for _, object := range []meta.Object{o.config, o.secret, o.budget, o.service} {
		if object.GetNamespace() != o.deployment.Namespace {
			c.fail("%s is in the namespace %q, the deployment in %q", object.GetName(), object.GetNamespace(), o.deployment.Namespace)
		}
	}
}

// labels: what selects pods selects the deployment's, one of which may be away.
func (c *checker) labels(o objects) {
	pod := labels.Set(o.deployment.Spec.Template.Labels)
	selects := func(what string, s *meta.LabelSelector) {
		selector, err := meta.LabelSelectorAsSelector(s)
		if err != nil || selector.Empty() || !selector.Matches(pod) {
			c.fail("%s doesn't select the deployment's pods (%v)", what, err)
		}
	}
	selects("the deployment", o.deployment.Spec.Selector)
	selects("the disruption budget", o.budget.Spec.Selector)
	selects("the service", &meta.LabelSelector{MatchLabels: o.service.Spec.Selector})
	for _, s := range o.deployment.Spec.Template.Spec.TopologySpreadConstraints {
		selects("the spreading", s.LabelSelector)
	}
	if r := o.deployment.Spec.Replicas; r == nil || *r < 2 {
		c.fail("there are fewer than two replicas: an update or a drained node leaves none")
	}
	if r := o.deployment.Spec.Strategy.RollingUpdate; r == nil || r.MaxUnavailable == nil || *r.MaxUnavailable != intstr.FromInt(0) {
		c.fail("an update takes a pod away before another one is ready")
	}
	if s := o.service.Spec; s.ExternalTrafficPolicy != core.ServiceExternalTrafficPolicyTypeLocal || s.Type != core.ServiceTypeLoadBalancer {
		c.fail("the service hides the clients' addresses")
	}
}

// rights: the container has none that it doesn't need.
func (c *checker) rights(spec *core.PodSpec) {
	if a := spec.AutomountServiceAccountToken; a == nil || *a {
		c.fail("the pod has a token for the API server")
	}
	p := spec.SecurityContext
	if p == nil || p.RunAsNonRoot == nil || !*p.RunAsNonRoot || p.RunAsUser == nil || *p.RunAsUser == 0 || p.RunAsGroup == nil || *p.RunAsGroup == 0 {
		c.fail("the pod may run as root")
	}
	if p == nil || p.FSGroup == nil || p.RunAsGroup == nil || *p.FSGroup != *p.RunAsGroup {
		c.fail("the pod's group isn't its files'")
	}
	if p == nil || p.SeccompProfile == nil || p.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		c.fail("the pod may call all of the kernel")
	}
	for _, container := range spec.Containers {
		s := container.SecurityContext
		if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
			c.fail("the container's root can be written")
		}
		if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation {
			c.fail("the container's programs may get more rights")
		}
		if s == nil || s.Capabilities == nil || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" || len(s.Capabilities.Add) > 0 {
			c.fail("the container keeps capabilities")
		}
	}
}

// probe checks that a probe asks one of the container's ports, and returns its path.
func (c *checker) probe(what string, p *core.Probe, ports map[string]int32) string {
	if p == nil || p.HTTPGet == nil {
		c.fail("there is no %s probe", what)
		return ""
	}
	if _, ok := ports[p.HTTPGet.Port.String()]; !ok {
		c.fail("the %s probe asks %s, which is no port of the container", what, p.HTTPGet.Port.String())
	}
	return p.HTTPGet.Path
}
