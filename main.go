// Terraform-provider-bunting is the provider plugin: Terraform and OpenTofu start it, nobody else does.
package main

import (
	"context"
	"errors"
	"flag"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/bunting-flags/terraform-provider-bunting/internal/provider"
)

// version is set by the build.
var version = "dev"

func main() {
	debug := flag.Bool("debug", false, "wait for a debugger's Terraform instead of being started by it")
	flag.Parse()
	err := providerserver.Serve(context.Background(), provider.New(version), providerserver.ServeOpts{
		Address: "registry.terraform.io/bunting-flags/bunting",
		Debug:   *debug,
	})
	if err := errors.Join(err, provider.WriteStats()); err != nil {
		log.Fatal(err)
	}
}
