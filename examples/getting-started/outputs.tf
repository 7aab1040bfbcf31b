# What callers get now. `id` is the key too, but not known while a change of the flag is still to be applied: so these
# are read after the change, not before it.

data "bunting_evaluation" "new_cart" {
  flag_key   = bunting_flag.new_cart.id
  depends_on = [bunting_kill_switch.new_cart]
}

data "bunting_evaluation" "theme" {
  flag_key = bunting_flag.theme.id
}

data "bunting_evaluation" "theme_of_acme" {
  flag_key   = bunting_flag.theme.id
  entity_id  = bunting_override.acme.entity_id
  depends_on = [bunting_override.acme]
}

data "bunting_evaluation" "limits" {
  flag_key = bunting_flag.limits.id
}

output "new_cart" {
  description = "The value, and which rule gave it."
  value       = "${data.bunting_evaluation.new_cart.value} (${data.bunting_evaluation.new_cart.source})"
}

output "theme" {
  value = {
    everybody = data.bunting_evaluation.theme.value
    acme      = data.bunting_evaluation.theme_of_acme.value
  }
}

output "max_items" {
  value = data.bunting_evaluation.limits.value.max_items
}
