;; Adds up all bytes of its input and returns the sum as decimal text (abi bytes).
;;
;; A checksum of data that travelled: the sums of the shards add up to the sum of the whole.
(module
  (memory (export "memory") 1)
  ;; Addresses 0 to 31 hold the text of the result.
  (global $top (mut i32) (i32.const 32))

  (func (export "alloc") (param $n i32) (result i32)
    (local $at i32) (local $missing i32)
    (local.set $at (global.get $top))
    (global.set $top (i32.add (global.get $top) (local.get $n)))
    (local.set $missing
      (i32.sub
        (i32.shr_u (i32.add (global.get $top) (i32.const 65535)) (i32.const 16))
        (memory.size)))
    (if (i32.gt_s (local.get $missing) (i32.const 0))
      (then
        (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1))
          (then (unreachable)))))
    (local.get $at))

  (func (export "map") (param $at i32) (param $n i32) (result i64)
    (local $end i32) (local $sum i64)
    (local.set $end (i32.add (local.get $at) (local.get $n)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $sum (i64.add (local.get $sum) (i64.load8_u (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (call $decimal (local.get $sum)))

  ;; Writes the digits from the right, ending at address 32.
  (func $decimal (param $value i64) (result i64)
    (local $at i32)
    (local.set $at (i32.const 32))
    (loop $next
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i64.store8 (local.get $at)
        (i64.add (i64.const 48) (i64.rem_u (local.get $value) (i64.const 10))))
      (local.set $value (i64.div_u (local.get $value) (i64.const 10)))
      (br_if $next (i64.ne (local.get $value) (i64.const 0))))
    (i64.or
      (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32))
      (i64.extend_i32_u (i32.sub (i32.const 32) (local.get $at))))))
