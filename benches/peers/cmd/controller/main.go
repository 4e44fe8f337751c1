// Command controller writes one status to each of a number of custom resources with controller-runtime, and prints
// what that took as one line of JSON. The benchmark `controller` runs it beside the same program on our framework.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/go-logr/logr"
)

var groupVersion = schema.GroupVersion{Group: "example.com", Version: "v1"}

// MyApp is the custom resource.
type MyApp struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              Spec   `json:"spec"`
	Status            Status `json:"status,omitempty"`
}

// Spec is what is wanted.
type Spec struct {
	Image     string `json:"image"`
	Replicas  int32  `json:"replicas"`
	Port      int32  `json:"port"`
	SecretRef string `json:"secretRef"`
}

// Status is what was seen.
type Status struct {
	ObservedGeneration int64  `json:"observedGeneration,omitempty"`
	ReadyReplicas      int32  `json:"readyReplicas,omitempty"`
	Phase              string `json:"phase,omitempty"`
}

// MyAppList is a list of them.
type MyAppList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MyApp `json:"items"`
}

// DeepCopyObject copies the object.
func (a *MyApp) DeepCopyObject() runtime.Object {
	copied := *a
	a.ObjectMeta.DeepCopyInto(&copied.ObjectMeta)
	return &copied
}

// DeepCopyObject copies the list.
func (l *MyAppList) DeepCopyObject() runtime.Object {
	copied := *l
	copied.Items = make([]MyApp, len(l.Items))
	for i := range l.Items {
		copied.Items[i] = *l.Items[i].DeepCopyObject().(*MyApp)
	}
	return &copied
}

type reconciler struct {
	client  client.Client
	total   int64
	written atomic.Int64
	echoed  atomic.Int64
	runs    atomic.Int64
	done    chan struct{}

	mutex sync.Mutex
	seen  map[string]time.Time
	waits []time.Duration
}

// saw notes when an event of an object arrived.
func (r *reconciler) saw(object client.Object) bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if _, waiting := r.seen[object.GetName()]; !waiting {
		r.seen[object.GetName()] = time.Now()
	}
	return true
}

func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	r.mutex.Lock()
	if since, found := r.seen[request.Name]; found {
		r.waits = append(r.waits, time.Since(since))
		delete(r.seen, request.Name)
	}
	r.mutex.Unlock()
	r.runs.Add(1)

	var app MyApp
	if err := r.client.Get(ctx, request.NamespacedName, &app); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if app.Status.ObservedGeneration == app.Generation {
		if r.echoed.Add(1) == r.total {
			close(r.done)
		}
		return reconcile.Result{}, nil
	}
	wanted := &MyApp{
		TypeMeta:   metav1.TypeMeta{APIVersion: groupVersion.String(), Kind: "MyApp"},
		ObjectMeta: metav1.ObjectMeta{Name: app.Name, Namespace: app.Namespace},
		Spec:       app.Spec,
		Status: Status{
			ObservedGeneration: app.Generation,
			ReadyReplicas:      app.Spec.Replicas,
			Phase:              "Running",
		},
	}
	//nolint:staticcheck // the same call that the other program makes: one apply of the status
	err := r.client.Status().Patch(ctx, wanted, client.Apply, client.FieldOwner("peer"), client.ForceOwnership)
	if err == nil {
		r.written.Add(1)
	}
	return reconcile.Result{}, err
}

func run() error {
	kubeconfig := flag.String("server", "", "path of the kubeconfig")
	objects := flag.Int64("objects", 3000, "how many there are")
	workers := flag.Int("workers", 5, "how many are reconciled at once")
	flag.Parse()

	log.SetLogger(logr.Discard())
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return fmt.Errorf("failed to read the kubeconfig: %w", err)
	}
	config.RateLimiter = nil
	config.QPS = -1
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(groupVersion, &MyApp{}, &MyAppList{})
	metav1.AddToGroupVersion(scheme, groupVersion)
	start := time.Now()
	mgr, err := manager.New(rest.CopyConfig(config), manager.Options{
		Scheme:  scheme,
		Metrics: server.Options{BindAddress: "0"},
	})
	if err != nil {
		return fmt.Errorf("failed to make the manager: %w", err)
	}
	r := &reconciler{client: mgr.GetClient(), total: *objects, done: make(chan struct{}), seen: map[string]time.Time{}}
	stamped := predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return r.saw(e.Object) },
		UpdateFunc: func(e event.UpdateEvent) bool { return r.saw(e.ObjectNew) },
	}
	if err := builder.ControllerManagedBy(mgr).
		For(&MyApp{}, builder.WithPredicates(stamped)).
		WithOptions(controller.Options{MaxConcurrentReconciles: *workers}).
		Complete(r); err != nil {
		return fmt.Errorf("failed to make the controller: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	select {
	case err := <-ended:
		cancel()
		return fmt.Errorf("the manager ended: %w", err)
	case <-time.After(5 * time.Minute):
		cancel()
		return fmt.Errorf("%d of %d statuses after five minutes", r.echoed.Load(), *objects)
	case <-r.done:
	}
	took := time.Since(start)
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		cancel()
		return fmt.Errorf("failed to read the usage: %w", err)
	}
	cancel()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	slices.Sort(r.waits)
	at := func(share float64) float64 {
		return r.waits[int(float64(len(r.waits)-1)*share)].Seconds() * 1000
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"seconds":     took.Seconds(),
		"cpu_seconds": float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9,
		"rss_bytes":   usage.Maxrss * 1024,
		"reconciles":  r.runs.Load(),
		"p50_ms":      at(0.5),
		"p99_ms":      at(0.99),
	})
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
