package client

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
)

// TLS says whom to trust and who we are, where the system's certificates and a
// token alone do not do. The texts are PEM (RFC 7468).
type TLS struct {
	// CA are the certificates of the authorities that the server's certificate may
	// come from; "" are the system's. It is trusted instead of these.
	CA string
	// ClientCertificate and ClientKey are shown to a server that asks for them
	// (mutual TLS): both or none. Intermediate certificates follow the first one.
	ClientCertificate, ClientKey string
	// ServerName is what the server's certificate has to be for; "" is the
	// endpoint's host.
	ServerName string
}

// The parts of TLS, as the operation of an *Error names them.
const (
	useCA                = "use tls.ca"
	useClientCertificate = "use tls.client_certificate"
	useClientKey         = "use tls.client_key"
	useTLS               = "use tls"
)

// config gives what crypto/tls needs. The error is an *Error of the kind Config,
// and has nothing of the key in it.
func (t TLS) config(endpoint string) (*tls.Config, error) {
	if strings.HasPrefix(endpoint, "http://") {
		return nil, configError(useTLS, "the endpoint says http, which has no TLS. Write https:// in the endpoint, or leave tls out.")
	}
	config := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(t.CA)) {
			return nil, configError(useCA, "it has no certificate in PEM form. Give the text that begins with -----BEGIN CERTIFICATE-----, not the name of its file.")
		}
	}
	switch {
	case t.ClientCertificate == "" && t.ClientKey == "":
		return config, nil
	case t.ClientCertificate == "":
		return nil, configError(useClientKey, "it comes without tls.client_certificate, and a key alone proves nothing. Set both, or none.")
	case t.ClientKey == "":
		return nil, configError(useClientCertificate, "it comes without tls.client_key, and a certificate alone proves nothing. Set both, or none.")
	}
	if !hasCertificate(t.ClientCertificate) {
		return nil, configError(useClientCertificate, "it has no certificate in PEM form. Give the text that begins with -----BEGIN CERTIFICATE-----, not the name of its file.")
	}
	pair, err := tls.X509KeyPair([]byte(t.ClientCertificate), []byte(t.ClientKey))
	if err != nil { // whose text may say something of the key
		return nil, configError(useClientKey, "it is not the key of tls.client_certificate, or not a private key in PEM form without a password. Give the text that begins with -----BEGIN PRIVATE KEY-----, not the name of its file.")
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

func hasCertificate(text string) bool { return x509.NewCertPool().AppendCertsFromPEM([]byte(text)) }
