// Policies enforces the network policies of the node: policies KUBECONFIG
//
// The kernel asks it about the first packet of each connection, through the queue 100.
package main

import (
	"context"
	"log"
	"os"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

func main() {
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Fatal(err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	core := factory.Core().V1()
	controller, err := networkpolicy.NewController(client, factory.Networking().V1().NetworkPolicies(), core.Namespaces(), core.Pods(),
		nil, nil, nil, nil, networkpolicy.Config{NodeName: "node-1", QueueID: 100})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	factory.Start(ctx.Done())
	log.Fatal(controller.Run(ctx))
}
