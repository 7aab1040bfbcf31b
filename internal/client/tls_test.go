package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// identity is a certificate with its key, both in PEM form.
type identity struct {
	certificate, key string
	leaf             *x509.Certificate
	private          *ecdsa.PrivateKey
}

// issue makes an identity for a name, signed by an authority; nil: by itself,
// as an authority.
func issue(t *testing.T, name string, by *identity) *identity {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: by == nil,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	i := &identity{private: private, leaf: template}
	if by == nil {
		by = i
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, by.leaf, &private.PublicKey, by.private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if i.leaf, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	i.certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
	i.key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	return i
}

// TestTLSSetting: whom the client trusts and whom it shows itself as is what the
// setting says, in front of a server that wants a certificate of its authority.
func TestTLSSetting(t *testing.T) {
	t.Parallel()
	ours, theirs := issue(t, "ours", nil), issue(t, "theirs", nil)
	served := issue(t, "flags.test", ours)
	pair, err := tls.X509KeyPair([]byte(served.certificate), []byte(served.key))
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM([]byte(ours.certificate))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", typeUnary)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()

	ci, stranger := issue(t, "ci", ours), issue(t, "ci", theirs)
	for name, tc := range map[string]struct {
		tls  TLS
		want string // of the error; "" for none
	}{
		"trusted both ways":          {TLS{ours.certificate, ci.certificate, ci.key, "flags.test"}, ""},
		"one authority among two":    {TLS{theirs.certificate + ours.certificate, ci.certificate, ci.key, "flags.test"}, ""},
		"another authority":          {TLS{theirs.certificate, ci.certificate, ci.key, "flags.test"}, "an authority that this machine does not trust"},
		"another name":               {TLS{ours.certificate, ci.certificate, ci.key, "other.test"}, "a certificate for another host"},
		"the endpoint's name":        {TLS{ours.certificate, ci.certificate, ci.key, ""}, "a certificate for another host"},
		"no client certificate":      {TLS{ours.certificate, "", "", "flags.test"}, "It may want a client certificate"},
		"a stranger's certificate":   {TLS{ours.certificate, stranger.certificate, stranger.key, "flags.test"}, "ended the TLS handshake"},
		"the system's authorities":   {TLS{"", ci.certificate, ci.key, "flags.test"}, "an authority that this machine does not trust"},
		"a name for an authority":    {TLS{"ca.pem", "", "", ""}, "cannot use tls.ca: it has no certificate in PEM form"},
		"a key for an authority":     {TLS{ci.key, "", "", ""}, "cannot use tls.ca: it has no certificate in PEM form"},
		"no key":                     {TLS{"", ci.certificate, "", ""}, "cannot use tls.client_certificate: it comes without tls.client_key"},
		"no certificate":             {TLS{"", "", ci.key, ""}, "cannot use tls.client_key: it comes without tls.client_certificate"},
		"a name for a certificate":   {TLS{"", "ci.pem", ci.key, ""}, "cannot use tls.client_certificate: it has no certificate in PEM form"},
		"a name for a key":           {TLS{"", ci.certificate, "ci.key", ""}, "cannot use tls.client_key: it is not the key"},
		"the key of somebody else":   {TLS{"", ci.certificate, stranger.key, ""}, "cannot use tls.client_key: it is not the key"},
		"the two in the wrong place": {TLS{"", ci.key, ci.certificate, ""}, "cannot use tls.client_certificate: it has no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := New(Options{Endpoint: server.URL, Token: secret, TLS: &tc.tls, Policy: &impatient})
			if err == nil {
				_, err = c.KilledFlags(t.Context())
				c.Close()
			}
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), ci.key[40:60]) {
				t.Errorf("the key is in %v", err)
			}
		})
	}
	_, err = New(Options{Endpoint: "http://127.0.0.1:1", TLS: &TLS{ServerName: "flags.test"}})
	if err == nil || !strings.Contains(err.Error(), "the endpoint says http, which has no TLS") {
		t.Errorf("http with tls: %v", err)
	}
}
