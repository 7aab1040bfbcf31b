import {
  to = bunting_kill_switch.new_cart
  identity = {
    flag_key = "checkout/new-cart"
    holder   = "terraform/checkout"
  }
}
