//! Four convex polyhedra with coloured faces, and the rays that meet them.
//! Pure.

/// A position or direction: x, y and z, which is up.
pub(super) type Vector = [f64; 3];

pub(super) fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn cross(a: Vector, b: Vector) -> Vector {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

pub(super) fn normalize(vector: Vector) -> Vector {
    let length = dot(vector, vector).sqrt();
    vector.map(|value| value / length)
}

/// Where the light comes from: the side of positive x, from above.
const LIGHT: Vector = [0.48, 0.36, 0.8];
/// Brightness of a face that is turned away from the light. One that is turned to it has 1.
const SHADOW: f64 = 0.7;

/// A face, and the half space behind it: the points `p` with `normal · p <= offset`.
#[derive(Debug, Clone)]
pub(super) struct Face {
    /// Of length 1.
    normal: Vector,
    offset: f64,
    /// Red, green and blue from 0 to 255, as lit.
    pub color: [f64; 3],
}

impl Face {
    /// A face through `point`, whose normal points out of the solid.
    fn new(normal: Vector, point: Vector, color: [u8; 3]) -> Self {
        let normal = normalize(normal);
        let light = SHADOW + (1.0 - SHADOW) * dot(normal, LIGHT).max(0.0);
        Self {
            normal,
            offset: dot(normal, point),
            color: color.map(|value| light * f64::from(value)),
        }
    }
}

/// A solid: what is behind all of its faces.
#[derive(Debug, Clone)]
pub(super) struct Polyhedron {
    faces: Vec<Face>,
}

impl Polyhedron {
    /// The solids in the order of [`CLASS_NAMES`](super::CLASS_NAMES), each within 0.4 of the origin.
    pub(super) fn all() -> [Self; 4] {
        [cuboid(), octahedron(), prism(), pyramid()].map(|faces| Self { faces })
    }

    /// The face that a ray from outside meets first. A ray enters where it has passed all faces that it
    /// comes towards, and misses if it left by another before.
    pub(super) fn hit(&self, origin: Vector, direction: Vector) -> Option<&Face> {
        let mut first = None;
        let (mut enters, mut leaves) = (f64::NEG_INFINITY, f64::INFINITY);
        for face in &self.faces {
            let room = face.offset - dot(face.normal, origin);
            let speed = dot(face.normal, direction);
            if speed == 0.0 && room < 0.0 {
                return None;
            }
            let distance = room / speed;
            if speed < 0.0 && distance > enters {
                (enters, first) = (distance, Some(face));
            } else if speed > 0.0 {
                leaves = leaves.min(distance);
            }
        }
        first.filter(|_| enters <= leaves)
    }
}

fn cuboid() -> Vec<Face> {
    let [x, y, z] = [0.26, 0.2, 0.2];
    vec![
        Face::new([1.0, 0.0, 0.0], [x, 0.0, 0.0], [220, 40, 40]),
        Face::new([0.0, 1.0, 0.0], [0.0, y, 0.0], [40, 160, 60]),
        Face::new([-1.0, 0.0, 0.0], [-x, 0.0, 0.0], [40, 80, 220]),
        Face::new([0.0, -1.0, 0.0], [0.0, -y, 0.0], [230, 200, 30]),
        Face::new([0.0, 0.0, 1.0], [0.0, 0.0, z], [240, 130, 20]),
        Face::new([0.0, 0.0, -1.0], [0.0, 0.0, -z], [120, 120, 140]),
    ]
}

fn octahedron() -> Vec<Face> {
    let colors = [
        [230, 50, 110],
        [40, 200, 200],
        [250, 210, 90],
        [90, 60, 190],
        [150, 30, 70],
        [20, 120, 120],
        [170, 130, 40],
        [50, 30, 110],
    ];
    let signs = [[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]];
    let halves = [1.0, -1.0].into_iter();
    let normals = halves.flat_map(|z| signs.map(|[x, y]| [x, y, z]));
    normals
        .zip(colors)
        .map(|(normal, color)| Face::new(normal, [0.0, 0.0, 0.38 * normal[2]], color))
        .collect()
}

/// An upright prism on a regular triangle.
fn prism() -> Vec<Face> {
    let colors = [[200, 80, 0], [0, 110, 200], [120, 190, 40]];
    let sides = colors.into_iter().zip([90f64, 210.0, 330.0]);
    let sides = sides.map(|(color, angle)| {
        let (sine, cosine) = angle.to_radians().sin_cos();
        Face::new(
            [cosine, sine, 0.0],
            [0.17 * cosine, 0.17 * sine, 0.0],
            color,
        )
    });
    let ends = [
        Face::new([0.0, 0.0, 1.0], [0.0, 0.0, 0.2], [60, 60, 60]),
        Face::new([0.0, 0.0, -1.0], [0.0, 0.0, -0.2], [150, 150, 150]),
    ];
    sides.chain(ends).collect()
}

/// A pyramid on a square.
fn pyramid() -> Vec<Face> {
    let (top, bottom, half) = (0.38, -0.2, 0.24);
    let (out, up) = (top - bottom, half);
    let apex = [0.0, 0.0, top];
    vec![
        Face::new([out, 0.0, up], apex, [130, 40, 160]),
        Face::new([0.0, out, up], apex, [0, 140, 140]),
        Face::new([-out, 0.0, up], apex, [240, 110, 170]),
        Face::new([0.0, -out, up], apex, [130, 130, 20]),
        Face::new([0.0, 0.0, -1.0], [0.0, 0.0, bottom], [110, 70, 30]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The points at which three faces meet, on the solid.
    fn corners(solid: &Polyhedron) -> Vec<Vector> {
        let mut corners = Vec::new();
        for (k, a) in solid.faces.iter().enumerate() {
            for (l, b) in solid.faces.iter().enumerate().skip(k + 1) {
                for c in &solid.faces[l + 1..] {
                    let volume = dot(a.normal, cross(b.normal, c.normal));
                    if volume.abs() < 1e-9 {
                        continue;
                    }
                    let [x, y, z] =
                        [(b, c, a), (c, a, b), (a, b, c)].map(|(left, right, third)| {
                            cross(left.normal, right.normal)
                                .map(|value| third.offset * value / volume)
                        });
                    let corner = [0, 1, 2].map(|axis| x[axis] + y[axis] + z[axis]);
                    let behind = |face: &Face| dot(face.normal, corner) <= face.offset + 1e-9;
                    if solid.faces.iter().all(behind) {
                        corners.push(corner);
                    }
                }
            }
        }
        corners
    }

    #[test]
    fn solids_lie_within_0_4_of_the_origin_and_contain_it() {
        for solid in Polyhedron::all() {
            let corners = corners(&solid);
            assert!(corners.len() >= 5);
            for corner in corners {
                assert!(dot(corner, corner).sqrt() <= 0.4, "{corner:?}");
            }
            assert!(solid.faces.iter().all(|face| face.offset > 0.1));
        }
    }

    #[test]
    fn no_two_faces_look_alike() {
        let solids = Polyhedron::all();
        let colors: Vec<_> = solids.iter().flat_map(|solid| &solid.faces).collect();
        for (index, face) in colors.iter().enumerate() {
            for other in &colors[..index] {
                let differs = |channel: usize| (face.color[channel] - other.color[channel]).abs();
                assert!((0..3).map(differs).fold(0.0, f64::max) > 12.0);
            }
        }
    }

    #[test]
    fn a_ray_beside_a_face_misses() {
        let [cuboid, ..] = Polyhedron::all();
        assert!(cuboid.hit([2.0, 0.0, 0.0], [-1.0, 0.0, 0.0]).is_some());
        assert!(cuboid.hit([2.0, 0.3, 0.0], [-1.0, 0.0, 0.0]).is_none());
    }

    proptest! {
        /// Steps along the ray are the oracle.
        #[test]
        fn a_ray_hits_where_it_first_is_inside(
            solid in 0usize..4, origin in prop::array::uniform3(-1.0f64..1.0),
            target in prop::array::uniform3(-0.4f64..0.4),
        ) {
            let solid = &Polyhedron::all()[solid];
            let origin = normalize(origin).map(|value| 2.5 * value);
            let direction = [0, 1, 2].map(|axis| target[axis] - origin[axis]);
            let room = |face: &Face, distance: f64| {
                let point = [0, 1, 2].map(|axis| origin[axis] + distance * direction[axis]);
                face.offset - dot(face.normal, point)
            };
            let mut steps = (0..20_000).map(|step| f64::from(step) / 1e4);
            let inside = steps.find(|&step| solid.faces.iter().all(|face| room(face, step) >= 0.0));
            let hit = solid.hit(origin, direction);
            // A corner may lie between two steps.
            if let Some(step) = inside {
                prop_assert!(room(hit.unwrap(), step).abs() < 1e-3);
            }
            if hit.is_none() {
                prop_assert_eq!(inside, None);
            }
        }
    }
}
