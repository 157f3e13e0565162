package kpop_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/kpop/lang"
)

// TestTextsAreTranslated: every text that the engine can say is in the
// catalogues.
func TestTextsAreTranslated(t *testing.T) {
	t.Parallel()
	english, err := lang.Match("en")
	if err != nil {
		t.Fatal(err)
	}
	have, said := english.IDs(), texts(t)
	slices.Sort(said)
	for _, text := range slices.Compact(said) {
		if !slices.Contains(have, text) {
			t.Errorf("%q has no translation: it belongs into kpop/lang/messages/*.json", text)
		}
	}
}

// texts are the constants that the package's source gives to ok and say, and
// those of its refusals.
func texts(t *testing.T) (all []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if text, ok := said(n); ok {
				all = append(all, text)
			}
			return true
		})
	}
	return all
}

func said(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.CallExpr:
		f, ok := n.Fun.(*ast.SelectorExpr)
		if ok && len(n.Args) == 1 && (f.Sel.Name == "ok" || f.Sel.Name == "say") {
			return constant(n.Args[0])
		}
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && key.Name == "text" {
			return constant(n.Value)
		}
	}
	return "", false
}

func constant(e ast.Expr) (string, bool) {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(literal.Value)
	return text, err == nil
}
