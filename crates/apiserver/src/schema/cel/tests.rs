use super::*;
use crate::schema::Schema;

fn found(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<String> {
    let schema = Schema::from_openapi(schema).unwrap();
    let mut errors = FieldErrors::new();
    validate(&schema, new, old, &Path::root(), &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

fn typed(rule: &str) -> Value {
    json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}], "properties": {
        "i": {"type": "integer"}, "n": {"type": "number"}, "s": {"type": "string"}, "b": {"type": "boolean"},
        "l": {"type": "array", "items": {"type": "string"}}, "ints": {"type": "array", "items": {"type": "integer"}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "m": {"type": "object", "additionalProperties": {"type": "string"}},
        "d": {"type": "string", "format": "duration"}, "t": {"type": "string", "format": "date-time"},
        "by": {"type": "string", "format": "byte"}, "ios": {"x-kubernetes-int-or-string": true},
        "one-two": {"type": "string"}, "namespace": {"type": "string"}, "under_score": {"type": "string"},
        "o": {"type": "object", "properties": {"a": {"type": "string"}}},
        "objs": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}}
    }})
}

fn value() -> Value {
    json!({"i": 3, "n": 2, "s": "héllo", "b": true, "l": ["a", "b", "a"], "ints": [3, 1, 2], "set": ["x", "y"],
        "m": {"k": "v", "a-b": "c"}, "d": "1h30m", "t": "2024-03-01T10:20:30Z", "by": "YWJj", "ios": "50%",
        "one-two": "x", "namespace": "ns", "under_score": "u", "o": {},
        "objs": [{"k": "a", "v": 1}, {"k": "b", "v": 2}]})
}

#[test]
fn expressions_hold() {
    for rule in [
        "self.i == 3 && self.i < 4.5 && self.n == 2.0 && 7 / 2 == 3 && -7 % 3 == -1",
        "self.s.size() == 5 && size(self.s) == 5 && self.s.startsWith('h') && self.s.endsWith('o')",
        "self.s.contains('ll') && self.s.matches('^h.*o$')",
        "self.l.all(x, x in ['a', 'b']) && self.l.exists(x, x == 'b') && self.l.exists_one(x, x == 'b')",
        "self.l.filter(x, x == 'a').size() == 2 && self.l.map(x, x + '!')[0] == 'a!'",
        "self.l.map(x, x != 'b', x) == ['a', 'a']",
        "self.ints.sum() == 6 && self.ints.max() == 3 && !self.ints.isSorted() && [1, 2].isSorted()",
        "self.ints.map(i, i * 2) == [6, 2, 4] && self.l.indexOf('b') == 1",
        "self.set == ['y', 'x'] && !(self.l == ['b', 'a', 'a'])",
        "'k' in self.m && self.m['k'] == 'v' && self.m['a-b'] == 'c' && self.m.all(k, self.m[k].size() == 1)",
        "has(self.m.k) && !has(self.o.a) && has(self.o)",
        "self.d == duration('90m') && self.d > duration('1h') && self.d.getMinutes() == 90",
        "self.t == timestamp('2024-03-01T10:20:30Z') && self.t.getMonth() == 2 && self.t.getDayOfWeek() == 5",
        "self.t + duration('1s') > self.t && self.t - self.t == duration('0s')",
        "self.by == b'abc' && size(self.by) == 3",
        "type(self.ios) == string && (type(self.ios) == int ? self.ios > 3 : self.ios.endsWith('%'))",
        "self.one__dash__two == 'x' && self.__namespace__ == 'ns' && self.under_score == 'u'",
        "self.?o.?a.orValue('none') == 'none' && self.?s.hasValue() && optional.of(1).value() == 1",
        "self.o.?a.or(optional.of('z')).value() == 'z' && self.?s.optMap(x, x + '!').value() == 'héllo!'",
        "self.m[?'nope'].orValue('x') == 'x' && self.?m.k.orValue('') == 'v'",
        "int('5') == 5 && string(5) == '5' && double('1.5') == 1.5 && bool('true') && string(duration('90s')) == '90s'",
        "quantity('1Gi').isGreaterThan(quantity('500Mi')) && quantity('1').compareTo(quantity('1000m')) == 0",
        "isQuantity('1Gi') && !isQuantity('x') && quantity(string(self.i)).compareTo(quantity('2')) == 1",
        "url('https://a.b/c').getHost() == 'a.b' && isURL('https://a.b') && isIP('1.2.3.4') && ip('::1').family() == 6",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && semver('1.2.3').isLessThan(semver('1.10.0'))",
        "'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b' && ' x '.trim() == 'x'",
        "'abc'.substring(1) == 'bc' && 'abc'.replace('b', 'x') == 'axc' && 'ABC'.lowerAscii() == 'abc'",
        "'%d-%s'.format([self.i, 'x']) == '3-x' && 'abc123'.find('[0-9]+') == '123'",
        "sets.contains([1, 2, 3], [2]) && sets.intersects([1], [1, 2])",
        "!format.dns1123Label().validate('good').hasValue() && format.dns1123Label().validate('Bad').hasValue()",
        "self.objs.map(o, o.v) == [1, 2] && self.objs.exists(o, o.k == 'b' && o.v == 2)",
        "self.objs.all(o, self.objs.exists_one(p, p.k == o.k))",
        "self.m == {'k': 'v', 'a-b': 'c'} && {'x': 1}.x == 1 && self.objs[0] == self.objs[0]",
        "true || self.o.a == 'x' || self.nope",
        "(self.o.a == 'x' || true) && !(false && self.o.a == 'x')",
        "self.l.all(i, x, i < 3 && x != '') && self.m.exists(k, v, v == 'c') && self.l.transformList(i, x, x) == self.l",
        "self.ints.sortBy(i, -i) == [3, 2, 1] && self.ints.sort() == [1, 2, 3] && self.l.distinct() == ['a', 'b']",
        "self.l.size() > 2 ? true : self.nope",
        "dyn(self.i) == 3u && 3u < 4 && !(1 == 'a') && null == null",
    ] {
        assert_eq!(
            found(&typed(rule), &value(), None),
            Vec::<String>::new(),
            "{rule}"
        );
    }
}

#[test]
fn failures_read_as_the_real_servers() {
    for (rule, said) in [
        ("self.i > 5", "<nil>: Invalid value: failed rule: self.i > 5"),
        (
            "self.o.a == 'x'",
            r#"<nil>: Invalid value: "object": no such key: a evaluating rule: self.o.a == 'x'"#,
        ),
        (
            "self.l[9] == 'x'",
            r#"<nil>: Invalid value: "object": index out of bounds: 9 evaluating rule: self.l[9] == 'x'"#,
        ),
        (
            "1 / (self.i - 3) > 0",
            r#"<nil>: Invalid value: "object": division by zero evaluating rule: 1 / (self.i - 3) > 0"#,
        ),
        (
            "self.i + dyn('x') == 1",
            r#"<nil>: Invalid value: "object": 'no such overload': call arguments did not match a supported operator, function or macro signature for rule: self.i + dyn('x') == 1"#,
        ),
    ] {
        assert_eq!(found(&typed(rule), &value(), None), [said]);
    }
}

#[test]
fn messages_reasons_and_paths() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 1", "message": " too small "}]},
        "b": {"type": "object", "properties": {"c": {"type": "string"}},
            "x-kubernetes-validations": [{"rule": "false", "reason": "FieldValueForbidden", "fieldPath": ".c",
                "messageExpression": "'no ' + self.c"}]},
        "l": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [
            {"rule": "self != ''", "reason": "FieldValueRequired", "message": "m"}]}},
        "m": {"type": "object", "additionalProperties": {"type": "string", "x-kubernetes-validations": [{"rule": "self == 'x'"}]}}}});
    let new = json!({"a": 1, "b": {"c": "d"}, "l": ["x", ""], "m": {"k": "y"}});
    assert_eq!(
        found(&schema, &new, None),
        [
            "a: Invalid value: 1: too small",
            "b.c: Forbidden: no d",
            "l[1]: Required value: m",
            r#"m[k]: Invalid value: "y": failed rule: self == 'x'"#,
        ]
    );
}

#[test]
fn transition_rules_and_ratcheting() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "shrinks"}]},
        "i": {"type": "string", "x-kubernetes-validations": [{"rule": "self == 'good'", "message": "bad"}]},
        "o": {"type": "string", "x-kubernetes-validations": [
            {"rule": "oldSelf.hasValue() || self == 'first'", "optionalOldSelf": true, "message": "not first"}]},
        "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
                "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v", "message": "item shrinks"}]}}}});
    let old = json!({"a": 2, "i": "old", "m": [{"k": "x", "v": 2}, {"k": "y", "v": 1}]});
    assert!(found(&schema, &json!({"a": 1, "i": "good", "o": "first"}), None).is_empty());
    assert!(found(&schema, &old, Some(&old)).is_empty());
    let new = json!({"a": 1, "i": "new", "o": "second", "m": [{"k": "y", "v": 0}, {"k": "x", "v": 3}]});
    assert_eq!(
        found(&schema, &new, Some(&old)),
        [
            "a: Invalid value: 1: shrinks",
            r#"i: Invalid value: "new": bad"#,
            "m[0]: Invalid value: item shrinks",
            r#"o: Invalid value: "second": not first"#,
        ]
    );
}

#[test]
fn hostile_expressions_do_no_harm() {
    for rule in [
        "((((",
        "self.",
        "'",
        "self.l.map(a, self.l.map(b, self.l.map(c, self.l))).size() > 0 && 'x'.matches('(')",
        "self.s.matches('[')",
        "int('9223372036854775807') + 1 > 0",
        "duration('1000000h') * 2",
        "[1,2,3].map(x, [1,2,3].map(y, y))[5]",
        "Foo{a: 1}.a",
        "self.ints.sum(1, 2)",
        "quantity('x')",
    ] {
        assert_eq!(found(&typed(rule), &value(), None).len(), 1, "{rule}");
    }
    let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
    assert_eq!(found(&typed(&deep), &value(), None).len(), 1);
    let many: Vec<i64> = (0..300).collect();
    let slow = "self.ints.all(a, self.ints.all(b, self.ints.all(c, a + b + c >= 0)))";
    let said = found(&typed(slow), &json!({ "ints": many }), None);
    assert!(said[0].contains("actual cost limit exceeded"), "{said:?}");
}

/// Rules with the answers of kube-apiserver 1.36.3: why it refused a CRD with the rule, or what it said of the value.
#[test]
fn answers_as_the_real_server_did() {
    let recorded: Value = serde_json::from_str(include_str!("testdata/rules.json")).unwrap();
    let numbered = regex::Regex::new("selfType[0-9]+").unwrap();
    let mut differing = Vec::new();
    for entry in recorded["rules"].as_array().unwrap() {
        let rule = entry["rule"].as_str().unwrap();
        let mut schema = recorded["schema"].clone();
        schema["x-kubernetes-validations"][0]["rule"] = json!(rule);
        let schema = Schema::from_openapi(&schema).unwrap();
        let checked = super::super::check(&schema.checks.as_ref().unwrap().rules[0], &schema, false);
        let refused: Vec<String> = checked.rule_error.into_iter().collect();
        let mut wanted: Vec<String> = Vec::new();
        for cause in entry["refused"].as_array().into_iter().flatten() {
            wanted.push(
                numbered
                    .replace_all(cause.as_str().unwrap(), "selfType")
                    .into_owned(),
            );
        }
        if refused != wanted {
            differing.push(format!("{rule}\nsaid:   {refused:#?}\nwanted: {wanted:#?}"));
        }
        if !wanted.is_empty() {
            continue;
        }
        let mut errors = FieldErrors::new();
        validate(&schema, &recorded["value"], None, &Path::root(), &mut errors);
        let said = json!(errors.iter().map(FieldError::body).collect::<Vec<_>>());
        if said != entry["causes"] {
            differing.push(format!("{rule}\nsaid:   {said:#}\nwanted: {:#}", entry["causes"]));
        }
    }
    assert!(
        differing.is_empty(),
        "{} differ\n{}",
        differing.len(),
        differing.join("\n\n")
    );
}
