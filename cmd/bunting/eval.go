package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

func newEvalCommand(a *app) *cobra.Command {
	var entity string
	var attributes []string
	c := &cobra.Command{
		Use:   "eval KEY",
		Short: "Show what a flag is now, for everybody or for one entity",
		Example: `  bunting eval checkout/new-cart
  bunting eval checkout/new-cart --entity user-42 --context tenant=acme
  bunting eval checkout/new-cart --context '{"tenant": "acme", "seats": 20}' --json`,
		Args: one("KEY"),
	}
	r := addRemote(c)
	c.Flags().StringVar(&entity, "entity", "", "the entity that asks, like user-42")
	c.Flags().StringArrayVar(&attributes, "context", nil, "attributes of who asks: NAME=TEXT, or a JSON object; may be repeated")
	c.ValidArgsFunction = completeKeys(a, r, knownKeys)
	c.RunE = func(c *cobra.Command, args []string) error {
		key, err := keyArgument(args[0])
		if err != nil {
			return err
		}
		caller := flag.Context{TargetingKey: entity}
		if caller.Attributes, err = contextArguments(attributes); err != nil {
			return err
		}
		return r.ask(a, func(server *client.Client) error {
			e, err := server.Evaluate(c.Context(), client.Question{Key: key, Caller: caller})
			switch {
			case err != nil:
				return err
			case e.ErrorCode == flag.ErrorFlagNotFound:
				return noFlag(key, server)
			case e.ErrorCode != "":
				return fmt.Errorf("%q cannot be evaluated: %s says %s", key, server.Endpoint(), cell(e.ErrorCode))
			case r.json:
				return printJSON(a.stdout, evaluationJSON{FlagKey: e.Key, Value: e.Value, Type: e.Type, Source: e.Source.String(), Stale: e.Stale, Revision: e.Revision.Number})
			}
			return printEvaluation(a, e)
		})
	}
	return c
}

// evaluationJSON is the answer for programs; its fields are promised.
type evaluationJSON struct {
	FlagKey  flag.Key   `json:"flag_key"`
	Value    flag.Value `json:"value"`
	Type     flag.Type  `json:"type"`
	Source   string     `json:"source"`
	Stale    bool       `json:"stale"`
	Revision int64      `json:"revision"`
}

func printEvaluation(a *app, e client.Evaluation) error {
	t := newTable("FLAG", "VALUE", "TYPE", "SOURCE", "REVISION")
	t.add(string(e.Key), e.Value.JSON(), e.Type.String(), e.Source.String(), strconv.FormatInt(e.Revision.Number, 10))
	if err := t.print(a.stdout); err != nil {
		return err
	}
	if e.Source == flag.SourceKilled {
		fmt.Fprintf(a.stdout, "The flag is killed. See by whom with: bunting flags %s --killed\n", e.Key)
	}
	if e.Stale {
		fmt.Fprintln(a.stdout, "The answer is STALE: the server cannot reach its own source of truth, and tells what it last knew.")
	}
	return nil
}

// contextArguments reads the attributes of a caller. Later ones win.
func contextArguments(arguments []string) (map[string]any, error) {
	if len(arguments) == 0 {
		return nil, nil
	}
	attributes := map[string]any{}
	for _, text := range arguments {
		if trimmed := strings.TrimSpace(text); strings.HasPrefix(trimmed, "{") {
			var object map[string]any
			if err := json.Unmarshal([]byte(trimmed), &object); err != nil {
				return nil, usagef("--context is not a JSON object. Write one like '{\"tenant\": \"acme\"}', or NAME=TEXT")
			}
			maps.Copy(attributes, object)
			continue
		}
		name, value, found := strings.Cut(text, "=")
		if !found || name == "" {
			return nil, usagef("--context is %q, neither NAME=TEXT nor a JSON object. Write one like tenant=acme", cell(text))
		}
		attributes[name] = value
	}
	return attributes, nil
}
