package cells

import (
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseCellServDB(t *testing.T) {
	const file = `
# a comment
>Example.ORG            #The cell of examples
192.0.2.11              #afsdb1.example.org
	192.0.2.12 #  afsdb2.example.org  and more
[192.0.2.13]    #clone.example.org
[ 192.0.2.14 ]    #clone2.example.org

>empty.example.org
>linked.example.org example.org #Another cell
198.51.100.1 #one.example.net
>twice.example.org #first
198.51.100.2 #two.example.net
>many.example.org
192.0.2.1 #h1
192.0.2.2 #h2
192.0.2.3 #h3
192.0.2.4 #h4
192.0.2.5 #h5
192.0.2.6 #h6
192.0.2.7 #h7
192.0.2.8 #h8
192.0.2.9 #h9
>twice.example.org #second
198.51.100.3 #three.example.net`

	server := func(addr, host string) Server {
		return Server{Host: host, Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), 7003)}
	}
	want := map[string]Cell{
		"example.org": {"example.org", []Server{
			server("192.0.2.11", "afsdb1.example.org"),
			server("192.0.2.12", "afsdb2.example.org"),
			server("192.0.2.13", "clone.example.org"),
			server("192.0.2.14", "clone2.example.org"),
		}},
		"empty.example.org":  {Name: "empty.example.org"},
		"linked.example.org": {"linked.example.org", []Server{server("198.51.100.1", "one.example.net")}},
		"twice.example.org":  {"twice.example.org", []Server{server("198.51.100.3", "three.example.net")}},
	}
	for _, eol := range []string{"\n", "\r\n"} {
		got, err := ParseCellServDB(strings.NewReader(strings.ReplaceAll(file, "\n", eol)))
		if err != nil {
			t.Fatal(err)
		}
		many := got["many.example.org"].Servers
		if len(many) != 8 || many[7].Host != "h8" {
			t.Errorf("of nine servers there are %v", many)
		}
		delete(got, "many.example.org")
		if !reflect.DeepEqual(got, want) {
			t.Errorf("cells are %v, want %v", got, want)
		}
	}
}

func TestParseCellServDBErrors(t *testing.T) {
	for file, says := range map[string]string{
		"192.0.2.1 #h":                        "line 1: server",
		">a\n192.0.2.1":                       "line 2: cell a: server \"192.0.2.1\" has no host",
		">a\n192.0.2.1 #":                     "has no host",
		">a\n\n#\n192.0.2 #h":                 "line 4: cell a",
		">a\n2001:db8::1 #h":                  "IPv4",
		">a\n0.0.0.0 #h":                      "IPv4",
		">a\n255.255.255.255 #h":              "IPv4",
		">a\n224.0.0.1 #h":                    "IPv4",
		">a\n[192.0.2.1 #h":                   "bracket",
		">a\n192.0.2.1] #h":                   "IPv4",
		">a\nhost #h":                         "IPv4",
		">":                                   "line 1: cell \"\"",
		">#x":                                 "cell \"\"",
		">a b c":                              "a name, or two",
		">a/b":                                "bad cell name \"a/b\"",
		">a b.":                               "bad cell name \"b.\"",
		">a\n" + strings.Repeat("x", 100_000): "reading cells",
	} {
		cells, err := ParseCellServDB(strings.NewReader(file))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.40q is %v, %v, want %q", file, cells, err, says)
		}
	}
	broken := errors.New("broken")
	if _, err := ParseCellServDB(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("error of the reader is %v", err)
	}
}

func FuzzParseCellServDB(f *testing.F) {
	f.Add(">example.org #x\n192.0.2.11 #afsdb1\n[192.0.2.12] #afsdb2\n")
	f.Add(">a b #c\n\n# d\n>a\n1.2.3.4 #e")
	f.Fuzz(func(t *testing.T, file string) {
		cells, err := ParseCellServDB(strings.NewReader(file))
		if err != nil {
			return
		}
		// What was read can be written, and read again.
		var s strings.Builder
		for _, name := range slices.Sorted(maps.Keys(cells)) {
			c := cells[name]
			if c.Name != name || !ValidName(name) || len(c.Servers) > MaxServers {
				t.Errorf("cell %q is %v", name, c)
			}
			s.WriteString(">" + name + "\n")
			for _, server := range c.Servers {
				s.WriteString(server.Addr.Addr().String() + " #" + server.Host + "\n")
			}
		}
		again, err := ParseCellServDB(strings.NewReader(s.String()))
		if err != nil || !reflect.DeepEqual(again, cells) {
			t.Errorf("%v becomes %v, %v", cells, again, err)
		}
	})
}

func TestCellServDBBound(t *testing.T) {
	line := "# " + strings.Repeat("x", 1000) + "\n"
	text := strings.Repeat(line, maxCellServDB/len(line)+1)
	if _, err := ParseCellServDB(strings.NewReader(text[:maxCellServDB])); err != nil {
		t.Error(err)
	}
	if _, err := ParseCellServDB(strings.NewReader(text[:maxCellServDB+1])); err == nil {
		t.Error("more than may be is taken")
	}
}
