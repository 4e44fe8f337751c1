// Command load asks an API server at a steady rate through Go's ordinary HTTP transport, and tells as one line of JSON
// what came of it once its standard input has closed. The benchmark `roll` runs it while API servers are replaced.
//
// Half of the requests read (GET and LIST), half write (create and update). No request is made twice by this program:
// what the transport does by itself, which is to repeat what a server said it did not take on, is part of what is
// measured.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// Objects that are read and updated, apart from those that are made.
	kept = 50
	// A request that is not answered by now has failed.
	patience = 30 * time.Second
	// So many failures are told in full.
	told = 20
)

// result is what came of it.
type result struct {
	Requests int      `json:"requests"`
	Failed   int      `json:"failed"`
	Errors   []string `json:"errors"`
	// Watches that ended, as they may.
	Watches int     `json:"watches"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Longest float64 `json:"longest_ms"`
	Seconds float64 `json:"seconds"`
}

// load is what is under way.
type load struct {
	host    string
	clients []*http.Client

	sync.Mutex
	result
	took []time.Duration
}

func main() {
	kubeconfig := flag.String("server", "", "path of the kubeconfig")
	rate := flag.Int("rate", 200, "requests per second")
	clients := flag.Int("clients", 8, "clients, each with connections of its own")
	flag.Parse()
	if err := run(*kubeconfig, *rate, *clients); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kubeconfig string, rate, clients int) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	l := &load{host: strings.TrimSuffix(config.Host, "/")}
	for range clients {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		if transport.TLSClientConfig, err = rest.TLSConfigFor(config); err != nil {
			return err
		}
		l.clients = append(l.clients, &http.Client{Transport: transport})
	}
	for _, namespace := range []string{"kept", "made"} {
		if err := l.call(0, "POST", "/api/v1/namespaces", object("Namespace", namespace, 0)); err != nil {
			return err
		}
	}
	for i := range kept {
		if err := l.call(0, "POST", maps("kept"), object("ConfigMap", name(i), 0)); err != nil {
			return err
		}
	}
	fmt.Println("begun")

	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var all sync.WaitGroup
	all.Go(func() { l.watch(ctx) })
	start := time.Now()
	ticks := time.NewTicker(time.Second / time.Duration(rate))
	defer ticks.Stop()
	for number := 0; ctx.Err() == nil; {
		<-ticks.C
		// As many as are due: a ticker drops what it is too late for.
		for ; time.Since(start) > time.Duration(number)*time.Second/time.Duration(rate); number++ {
			due := number
			all.Go(func() { l.request(due) })
		}
	}
	l.Seconds = time.Since(start).Seconds()
	all.Wait()
	slices.Sort(l.took)
	at := func(share int) float64 {
		return float64(l.took[(len(l.took)-1)*share/100].Microseconds()) / 1e3
	}
	l.Requests, l.P50, l.P99, l.Longest = len(l.took), at(50), at(99), at(100)
	return json.NewEncoder(os.Stdout).Encode(l.result)
}

// request makes one of the four requests in turn.
func (l *load) request(number int) {
	client, of := number/4%len(l.clients), name(number/4%kept)
	start := time.Now()
	var err error
	switch number % 4 {
	case 0:
		err = l.call(client, "GET", maps("kept")+"/"+of, nil)
	case 1:
		err = l.call(client, "POST", maps("made"), object("ConfigMap", fmt.Sprintf("made-%d", number), number))
	case 2:
		err = l.call(client, "GET", maps("kept"), nil)
	case 3:
		err = l.call(client, "PUT", maps("kept")+"/"+of, object("ConfigMap", of, number))
	}
	took := time.Since(start)
	l.Lock()
	defer l.Unlock()
	l.took = append(l.took, took)
	if err != nil {
		l.Failed++
		if len(l.Errors) < told {
			l.Errors = append(l.Errors, fmt.Sprintf("after %v: %v", took, err))
		}
	}
}

func (l *load) call(client int, method, path string, body []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, l.host+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := l.clients[client].Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, answer)
	}
	return nil
}

// watch keeps a watch open: its end is no failure, but that it can't be had again is.
func (l *load) watch(ctx context.Context) {
	for ctx.Err() == nil {
		err := func() error {
			request, err := http.NewRequestWithContext(ctx, "GET", l.host+maps("made")+"?watch=1", nil)
			if err != nil {
				return err
			}
			response, err := l.clients[0].Do(request)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("watch: %s", response.Status)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			return nil
		}()
		if ctx.Err() != nil {
			return
		}
		l.Lock()
		l.Watches++
		if err != nil {
			l.Failed++
			l.Errors = append(l.Errors, err.Error())
		}
		l.Unlock()
	}
}

func maps(namespace string) string {
	return "/api/v1/namespaces/" + namespace + "/configmaps"
}

func name(number int) string {
	return fmt.Sprintf("map-%d", number)
}

func object(kind, name string, number int) []byte {
	body := map[string]any{
		"apiVersion": "v1",
		"kind":       kind,
		"metadata":   map[string]any{"name": name},
	}
	if kind == "ConfigMap" {
		body["data"] = map[string]string{"number": fmt.Sprint(number), "padding": strings.Repeat("x", 200)}
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return text
}
