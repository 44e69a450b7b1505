;; Counts the primes in [lo, hi) by trial division with the odd divisors (abi range).
;;
;; Deliberately simple: it is a load with no data, for measuring how work spreads.
(module
  (func (export "map") (param $lo i64) (param $hi i64) (result i64)
    (local $n i64) (local $count i64)
    ;; 2 is the only even prime; the loop below visits odd numbers from 3.
    (if (i32.and (i64.le_s (local.get $lo) (i64.const 2)) (i64.gt_s (local.get $hi) (i64.const 2)))
      (then (local.set $count (i64.const 1))))
    (local.set $n
      (select
        (i64.or (local.get $lo) (i64.const 1))
        (i64.const 3)
        (i64.gt_s (local.get $lo) (i64.const 3))))
    (block $done
      (loop $next
        (br_if $done (i64.ge_s (local.get $n) (local.get $hi)))
        (local.set $count
          (i64.add (local.get $count) (i64.extend_i32_u (call $odd_is_prime (local.get $n)))))
        (local.set $n (i64.add (local.get $n) (i64.const 2)))
        (br $next)))
    (local.get $count))

  ;; Tells whether an odd number above 2 is prime.
  (func $odd_is_prime (param $n i64) (result i32)
    (local $d i64)
    (local.set $d (i64.const 3))
    (loop $next
      (if (i64.gt_u (i64.mul (local.get $d) (local.get $d)) (local.get $n))
        (then (return (i32.const 1))))
      (if (i64.eqz (i64.rem_u (local.get $n) (local.get $d)))
        (then (return (i32.const 0))))
      (local.set $d (i64.add (local.get $d) (i64.const 2)))
      (br $next))
    (unreachable)))
