//! What a wrong recipe or command line is answered with.

use crate::program::tl;

#[test]
fn a_missing_recipe_is_a_mistake_of_the_command_line() {
    tl(&["plan", "no/such/recipe.yaml"]).expect(2).says(&["no/such/recipe.yaml"]);
}
