package endtoend

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestTokenStaysSecret lets everything log all it has, and then looks for the token in every file and every output.
func TestTokenStaysSecret(t *testing.T) {
	t.Parallel()
	const config = `
resource "bunting_flag" "theme" {
  key           = "shop/theme"
  default_value = "classic"
  layer         = "tenant"
}

resource "bunting_override" "acme" {
  flag_key  = bunting_flag.theme.key
  entity_id = "acme"
  value     = "dark"
}

resource "bunting_kill_switch" "theme" {
  flag_key           = bunting_flag.theme.key
  reason             = "for now"
  release_on_destroy = true
}

data "bunting_evaluation" "theme" {
  flag_key   = bunting_flag.theme.id
  depends_on = [bunting_kill_switch.theme]
}

data "bunting_server" "this" {}
`
	for name, configured := range map[string]struct {
		config string
		env    func(t *testing.T, token string) (name, value string)
	}{
		"in the environment": {config, func(_ *testing.T, token string) (string, string) { return "BUNTING_TOKEN", token }},
		"in a file": {config, func(t *testing.T, token string) (string, string) {
			t.Helper()
			path := filepath.Join(t.TempDir(), "token")
			writeFile(t, path, token+"\n", 0o600)
			return "BUNTING_TOKEN_FILE", path
		}},
		"in an ephemeral variable": {config + `
variable "token" {
  type      = string
  ephemeral = true
  sensitive = true
}

provider "bunting" {
  token = var.token
}
`, func(_ *testing.T, token string) (string, string) { return "TF_VAR_token", token }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			w := newWorkspace(t, s, configured.config)
			delete(w.env, "BUNTING_TOKEN")
			variable, value := configured.env(t, s.token)
			w.env[variable] = value
			w.env["TF_LOG"] = "TRACE"
			w.env["TF_LOG_PATH"] = filepath.Join(w.dir, "trace.log")

			applied := func() output { // a saved plan takes no -auto-approve
				out := finish(t, command(t, w.dir, w.env, cli(t), "apply", "-input=false", "first.tfplan"))
				if out.code != 0 {
					t.Errorf("applying the saved plan ended with %d:\n%s", out.code, out.text)
				}
				return out
			}
			outputs := []output{
				w.must(t, "plan", "-out=first.tfplan"),
				w.must(t, "show", "first.tfplan"),
				w.must(t, "show", "-json", "first.tfplan"),
				applied(),
				w.must(t, "plan", "-out=second.tfplan"),
				w.must(t, "apply", "-refresh-only"),
				w.must(t, "show", "-json"),
				s.operate(t, s.token, "eval", "shop/theme"),
				s.operate(t, s.token, "flags"),
				s.operate(t, s.token, "audit"),
				s.operate(t, s.token, "token", "list"),
			}
			// Wrong ones are as secret as right ones: they are often another server's.
			wrong := "bunting_" + base64.RawURLEncoding.EncodeToString([]byte("a wrong token of the usual length"))
			_, w.env[variable] = configured.env(t, wrong)
			outputs = append(outputs, w.run(t, "plan"), s.bunting(t, wrong, "flags"))
			w.env[variable] = value
			outputs = append(outputs, w.must(t, "destroy"))
			s.stop(t, os.Interrupt)

			for _, secret := range []string{s.token, wrong} {
				for _, out := range outputs {
					reportSecret(t, secret, "an output", []byte(out.text))
				}
				if plans := searchFolder(t, secret, w.dir); plans != 2 {
					t.Errorf("looked into %d saved plans, expected 2", plans)
				}
				searchFolder(t, secret, s.dir)
			}
			if info, err := os.Stat(filepath.Join(w.dir, "trace.log")); err != nil || info.Size() < 100_000 {
				t.Errorf("the trace log is not one: %v", err)
			}
		})
	}
}

// searchFolder looks for the secret in every file but the token file, and in what archives hold, as saved plans are. It
// gives the number of archives.
func searchFolder(t *testing.T, secret, dir string) (archives int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == "bunting.token" {
			return err
		}
		text := []byte(readFile(t, path))
		reportSecret(t, secret, path, text)
		archive, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
		if err != nil {
			return nil //nolint:nilerr // No archive: the text was all there is.
		}
		archives++
		for _, file := range archive.File {
			reader, err := file.Open()
			if err != nil {
				return err
			}
			text, err := io.ReadAll(reader)
			if err != nil {
				return err
			}
			reportSecret(t, secret, path+" "+file.Name, text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return archives
}

func reportSecret(t *testing.T, secret, where string, text []byte) {
	t.Helper()
	if bytes.Contains(text, []byte(secret)) {
		t.Errorf("%s has the token", where)
	}
}
