# Three flags, one override, one kill switch, and their values read back.
#
#   bunting serve                                    # in another terminal
#   export BUNTING_ENDPOINT=http://127.0.0.1:8980
#   export BUNTING_TOKEN=$(cat bunting.token)        # the server wrote it where it was started
#   terraform apply

terraform {
  required_providers {
    bunting = {
      source = "bunting-flags/bunting"
    }
  }
}

provider "bunting" {
  # Endpoint and token come from the environment.

  # Who manages these flags. Another configuration that declares the same key is refused, and told this name.
  workspace = "getting-started"
}

# --- A switch that can be thrown -----------------------------------------------------------------------------------

# Everybody gets `value`. When the flag is killed, everybody gets `default_value`.
resource "bunting_flag" "new_cart" {
  key           = "checkout/new-cart"
  default_value = false
  value         = true
  description   = "The rewritten cart"
  owner         = "team-checkout"
}

variable "stop_new_cart" {
  description = "Kill the new cart: terraform apply -var stop_new_cart=true"
  type        = bool
  default     = false
}

# The kill switch in code. An operator's `bunting kill checkout/new-cart` stands beside it: no apply lifts that one.
resource "bunting_kill_switch" "new_cart" {
  flag_key           = bunting_flag.new_cart.key
  engaged            = var.stop_new_cart
  reason             = "Stopped by the variable stop_new_cart"
  release_on_destroy = true
}

# --- A text that some tenants have their own of --------------------------------------------------------------------

resource "bunting_flag" "theme" {
  key            = "shop/theme"
  default_value  = "classic"
  value          = "blue"
  allowed_values = ["classic", "blue", "dark"]
  layer          = "tenant" # the kind of entity that may have overrides
}

resource "bunting_override" "acme" {
  flag_key  = bunting_flag.theme.key
  entity_id = "acme"
  value     = "dark"
}

# --- A structure ---------------------------------------------------------------------------------------------------

resource "bunting_flag" "limits" {
  key = "checkout/limits"
  default_value = {
    max_items = 50
    countries = ["DE", "FR"]
  }
}
