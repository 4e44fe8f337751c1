//! Sets of field paths.
//!
//! A set is a trie: each node is one step, says whether the path that ends there is a member, and holds the steps
//! below it. Nodes are sorted, so that union, difference and intersection are merges of two sorted lists, and no
//! node is kept that is neither a member nor has any below it.

use super::element::Element;
use std::fmt;

/// A set of field paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set<'a> {
    pub(super) nodes: Vec<Node<'a>>,
}

/// A step with what is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node<'a> {
    pub(super) element: Element<'a>,
    pub(super) member: bool,
    pub(super) below: Set<'a>,
}

impl<'a> Set<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a step at the end where it belongs there, else in its place. A step that is there already is joined.
    pub(super) fn add(&mut self, element: Element<'a>, member: bool, below: Set<'a>) {
        if !member && below.is_empty() {
            return;
        }
        let node = Node {
            element,
            member,
            below,
        };
        match self.nodes.last() {
            None => self.nodes.push(node),
            Some(last) if last.element < node.element => self.nodes.push(node),
            Some(_) => match self.find(&node.element) {
                Ok(place) => {
                    let there = &mut self.nodes[place];
                    there.member |= member;
                    there.below = there.below.union(&node.below);
                }
                Err(place) => self.nodes.insert(place, node),
            },
        }
    }

    fn find(&self, element: &Element<'_>) -> Result<usize, usize> {
        self.nodes.binary_search_by(|node| node.element.cmp(element))
    }

    pub(super) fn get(&self, element: &Element<'_>) -> Option<&Node<'a>> {
        self.find(element).ok().map(|place| &self.nodes[place])
    }

    /// The node of a field, found without making an element.
    pub(super) fn field(&self, name: &str) -> Option<&Node<'a>> {
        self.get(&Element::Field(name))
    }

    /// Paths in this set, in that one, or in both.
    pub(super) fn union(&self, other: &Set<'a>) -> Set<'a> {
        let mut nodes = Vec::with_capacity(self.nodes.len().max(other.nodes.len()));
        let mut theirs = other.nodes.iter().peekable();
        for mine in &self.nodes {
            while let Some(node) = theirs.next_if(|node| node.element < mine.element) {
                nodes.push(node.clone());
            }
            nodes.push(match theirs.next_if(|node| node.element == mine.element) {
                None => mine.clone(),
                Some(node) => Node {
                    element: mine.element.clone(),
                    member: mine.member || node.member,
                    below: mine.below.union(&node.below),
                },
            });
        }
        nodes.extend(theirs.cloned());
        Set { nodes }
    }

    /// Paths in both.
    pub(super) fn intersection(&self, other: &Set<'_>) -> Set<'a> {
        self.filter_map(|mine| {
            let theirs = other.get(&mine.element)?;
            let below = mine.below.intersection(&theirs.below);
            node_of(&mine.element, mine.member && theirs.member, below)
        })
    }

    /// Paths in this set and not in that one. A path stays when only one above or below it is in the other.
    pub(super) fn difference(&self, other: &Set<'_>) -> Set<'a> {
        self.filter_map(|mine| match other.get(&mine.element) {
            None => Some(mine.clone()),
            Some(theirs) => {
                let below = mine.below.difference(&theirs.below);
                node_of(&mine.element, mine.member && !theirs.member, below)
            }
        })
    }

    /// Paths in this set that neither are in that one nor below one of it.
    pub(super) fn recursive_difference(&self, other: &Set<'_>) -> Set<'a> {
        self.filter_map(|mine| match other.get(&mine.element) {
            None => Some(mine.clone()),
            Some(theirs) if theirs.member => None,
            Some(theirs) => {
                let below = mine.below.recursive_difference(&theirs.below);
                node_of(&mine.element, mine.member, below)
            }
        })
    }

    fn filter_map(&self, keep: impl FnMut(&Node<'a>) -> Option<Node<'a>>) -> Set<'a> {
        Set {
            nodes: self.nodes.iter().filter_map(keep).collect(),
        }
    }

    /// Whether any path is in both sets.
    pub(super) fn intersects(&self, other: &Set<'_>) -> bool {
        let (few, many) = if self.nodes.len() < other.nodes.len() {
            (self, other)
        } else {
            (other, self)
        };
        few.nodes.iter().any(|node| {
            many.get(&node.element)
                .is_some_and(|there| (node.member && there.member) || node.below.intersects(&there.below))
        })
    }

    /// Whether every path of this set is in that one.
    pub(super) fn is_subset(&self, other: &Set<'_>) -> bool {
        self.nodes.iter().all(|node| {
            other
                .get(&node.element)
                .is_some_and(|there| (there.member || !node.member) && node.below.is_subset(&there.below))
        })
    }

    /// Calls `visit` with every path: at each level the members first, then what is below.
    pub(super) fn each_path(&self, above: &mut Vec<Element<'a>>, visit: &mut dyn FnMut(&[Element<'a>])) {
        for node in self.nodes.iter().filter(|node| node.member) {
            above.push(node.element.clone());
            visit(above);
            above.pop();
        }
        for node in self.nodes.iter().filter(|node| !node.below.is_empty()) {
            above.push(node.element.clone());
            node.below.each_path(above, visit);
            above.pop();
        }
    }

    /// The texts of all paths, in the order of [`Set::each_path`].
    pub(super) fn path_texts(&self) -> Vec<String> {
        let mut texts = Vec::new();
        self.each_path(&mut Vec::new(), &mut |path| {
            texts.push(PathText(path).to_string());
        });
        texts
    }

    /// Adds a path of field names.
    pub(super) fn insert_fields(&mut self, path: &[&'a str]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let mut below = Set::default();
        below.insert_fields(rest);
        self.add(Element::Field(first), rest.is_empty(), below);
    }

    /// Whether the path of field names is a member.
    pub(super) fn has_fields(&self, path: &[&str]) -> bool {
        match path {
            [] => false,
            [last] => self.field(last).is_some_and(|node| node.member),
            [first, rest @ ..] => self.field(first).is_some_and(|node| node.below.has_fields(rest)),
        }
    }
}

fn node_of<'a>(element: &Element<'a>, member: bool, below: Set<'a>) -> Option<Node<'a>> {
    (member || !below.is_empty()).then(|| Node {
        element: element.clone(),
        member,
        below,
    })
}

/// A path as messages show it, as `.spec.ports[port=80,protocol="TCP"].name`.
pub(super) struct PathText<'p, 'a>(pub(super) &'p [Element<'a>]);

impl fmt::Display for PathText<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|element| write!(f, "{element}"))
    }
}
