//! Links the image.

fn main() {
    tantalum_partition_build::link();
}
