//! Device trees made by hand, to change one property at a time.

/// A node with its properties and children.
#[derive(Clone, Default)]
pub struct Tree {
    name: String,
    properties: Vec<(String, Vec<u8>)>,
    children: Vec<Tree>,
}

/// 32-bit cells.
pub fn cells(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

/// A string.
pub fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), &[0]].concat()
}

impl Tree {
    /// The node at `path` ("" is this one), made if it is not there.
    pub fn node(&mut self, path: &str) -> &mut Tree {
        path.split('/')
            .filter(|name| !name.is_empty())
            .fold(self, |tree, name| {
                let index = tree
                    .children
                    .iter()
                    .position(|child| child.name == name)
                    .unwrap_or_else(|| {
                        tree.children.push(Tree {
                            name: name.into(),
                            ..Tree::default()
                        });
                        tree.children.len() - 1
                    });
                &mut tree.children[index]
            })
    }

    /// Sets a property.
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) -> &mut Self {
        self.remove(name);
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Takes a property away.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.properties.retain(|(other, _)| other != name);
        self
    }

    /// Takes a child away.
    pub fn remove_node(&mut self, name: &str) -> &mut Self {
        self.children.retain(|child| child.name != name);
        self
    }

    /// The flattened tree.
    pub fn blob(&self) -> Vec<u8> {
        let (mut structure, mut strings) = (Vec::new(), Vec::new());
        self.flatten(&mut structure, &mut strings);
        structure.extend(cells(&[9]));
        blob(&structure, &strings)
    }

    fn flatten(&self, structure: &mut Vec<u8>, strings: &mut Vec<u8>) {
        let pad = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(4), 0);
        structure.extend(cells(&[1]));
        structure.extend(text(&self.name));
        pad(structure);
        for (name, value) in &self.properties {
            let lengths = [3, value.len(), strings.len()].map(|number| u32::try_from(number).unwrap());
            strings.extend(text(name));
            structure.extend(cells(&lengths));
            structure.extend(value);
            pad(structure);
        }
        for child in &self.children {
            child.flatten(structure, strings);
        }
        structure.extend(cells(&[2]));
    }
}

/// A device tree of these two blocks.
pub fn blob(structure: &[u8], strings: &[u8]) -> Vec<u8> {
    let sizes = [56, structure.len(), strings.len()].map(|number| u32::try_from(number).unwrap());
    let [start, structure_size, strings_size] = sizes;
    let strings_start = start + structure_size;
    let mut blob = cells(&[
        0xd00d_feed,
        strings_start + strings_size,
        start,
        strings_start,
        40,
        17,
        16,
        0,
        strings_size,
        structure_size,
        0,
        0,
        0,
        0,
    ]);
    blob.extend(structure);
    blob.extend(strings);
    blob
}
