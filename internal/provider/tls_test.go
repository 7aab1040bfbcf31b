package provider

import (
	"encoding/pem"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
)

// A server behind a certificate of one's own authority is reached with the
// setting tls alone, from the configuration and from the environment.
func TestTLSSetting(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	address, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(address))
	t.Cleanup(front.Close)
	c := newCLI(t, front.URL, server.AdminToken)
	c.file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})))
	const body = "resource \"bunting_flag\" \"f\" {\n  key = \"f\"\n  default_value = true\n}\n"

	c.config(body + providerBlock)
	if got := c.plans().fails(t); !strings.Contains(got.Detail, "an authority that this machine does not trust") {
		t.Errorf("got %s", got)
	}
	c.config(body + "provider \"bunting\" {\n  tls = { ca = file(\"ca.pem\"), server_name = \"example.com\" }\n}\n")
	c.applies().must(t)
	c.config(body + "provider \"bunting\" {\n  tls = { ca = file(\"ca.pem\"), server_name = \"other.test\" }\n}\n")
	if got := c.plans().fails(t); !strings.Contains(got.Detail, "a certificate for another host") {
		t.Errorf("got %s", got)
	}
	c.config(body + providerBlock)
	c.env = append(c.env, "BUNTING_TLS_CA_FILE="+filepath.Join(c.dir, "ca.pem"))
	c.unchanged()
}
