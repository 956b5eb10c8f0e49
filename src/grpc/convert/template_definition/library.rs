//! Templates that are made from one of the library (reference 2.4.7).

use super::buttons;
use crate::contract::v1;
use crate::contract::v1::library_template_button_input::Input;
use crate::grpc::convert::Violations;

/// Checks that the fields of the library and those of an own template do not mix.
pub(super) fn check(create: &v1::CreateTemplateAction, found: &mut Violations) {
    if create.library_template_name.is_empty() {
        let remedy = "must be absent without library_template_name";
        if !create.library_template_button_inputs.is_empty() {
            found.add("create.library_template_button_inputs", remedy);
        }
        if create.library_template_body_inputs.is_some() {
            found.add("create.library_template_body_inputs", remedy);
        }
        return;
    }
    if !create.components.is_empty() {
        let remedy = "must be absent beside library_template_name: the library has them";
        found.add("create.components", remedy);
    }
    for (position, input) in create.library_template_button_inputs.iter().enumerate() {
        let Some(Input::Url(url)) = &input.input else { continue };
        let path = format!("create.library_template_button_inputs[{position}].url");
        let example = Some(&url.url_suffix_example).filter(|example| !example.is_empty());
        buttons::check_url(&format!("{path}.base_url"), &url.base_url, found);
        let example_path = format!("{path}.url_suffix_example");
        buttons::check_url_example(&example_path, &url.base_url, example.map(String::as_str), found);
    }
}
